"""The available base models. An entry is data; nothing is loaded here and PyTorch is not imported."""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError, safe_open

from ipa_app.errors import UserError
from ipa_app.messages import Message, without_folders
from ipa_app.models.adapters import with_own_adapters
from ipa_app.models.contents import contents_of
from ipa_app.models.controlnets import with_own_controlnets
from ipa_app.models.entry import FastWay, ModelEntry
from ipa_app.models.families import SD1, Family, known_family
from ipa_app.models.folder import (
    Manifest,
    find_body_poses,
    find_pose_reader,
    find_presets,
    native_size,
    own_configuration,
    read_json,
    read_words,
)
from ipa_app.models.listed import listed
from ipa_app.models.published import published_models
from ipa_app.models.styles import STYLES_VARIABLE, Style, find_styles
from ipa_app.models.vocabulary import read_dictionaries
from ipa_app.models.weights import quantised, read_header
from ipa_app.runtime import absolute

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "toybox"
MODELS_VARIABLE = "IPA_MODELS"
HUB_VARIABLE = "IPA_HUB_MODELS"
WORDS_FILE = "words.json"
CHECKPOINT_ENDINGS = (".safetensors", ".sft")


class Catalog(Mapping[str, ModelEntry]):
    """The models that may be requested, by name, and what was meant to be a model and cannot be used.

    Attributes:
        left_out: why each named thing is left out, by its name; shown to everybody, so without folders.
    """

    def __init__(self, entries: Mapping[str, ModelEntry], *, left_out: Mapping[str, Message] | None = None) -> None:
        """Hold entries; they can be read but not changed."""
        self._entries = dict(entries)
        told = {name: without_folders(sentence) for name, sentence in (left_out or {}).items()}
        self.left_out: Mapping[str, Message] = MappingProxyType(told)

    def __getitem__(self, name: str) -> ModelEntry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def catalog() -> Catalog:
    """List the bundled model, those offered from the Hub, and every folder and file that IPA_MODELS names.

    IPA_MODELS holds folders in diffusers layout and checkpoint files, separated as in PATH or by semicolons. One with
    the name of another model here replaces it. IPA_HUB_MODELS names the models offered from the Hub, separated by
    commas; without it all are offered, except on a Space, where any visitor could fill the disk. Whatever cannot be
    used is left out with a warning in the log; the others work.

    Returns:
        Entries by name, the bundled model first, with the built-in styles and those that IPA_STYLES names.
    """
    entries = {"toybox": entry_from_folder(BUNDLED, name="toybox")}
    unusable: list[tuple[str, object, Message]] = []  # its name, where it is, and why it cannot be used
    published = {entry.name: entry for entry in published_models()}
    for name in _offered(published):
        if name in published:
            entries[name] = published[name]
        else:
            unknown = UserError(
                "catalog.unknown_published", variable=HUB_VARIABLE, name=repr(name), names=", ".join(published)
            )
            unusable.append((name, HUB_VARIABLE, unknown.message))
    named: dict[str, Path] = {}
    for path in _named_paths(os.environ.get(MODELS_VARIABLE, "")):
        try:
            entry = _entry_from_path(path)
            if named.setdefault(entry.name, path) != path:
                raise UserError("catalog.name_taken", variable=MODELS_VARIABLE, name=entry.name)
            entries[entry.name] = entry
        except UserError as error:
            unusable.append((path.name, path, error.message))
        except OSError as error:
            unusable.append((path.name, path, Message("file.unreadable", path=path, error=error.strerror)))
    styles, trouble = find_styles(os.environ.get(STYLES_VARIABLE, ""))
    entries = {name: with_styles(entry, styles) for name, entry in entries.items()}
    unusable += [(path.name, path, sentence) for path, sentence in trouble]
    return Catalog(entries, left_out=_named_once(unusable, taken=entries))


def _named_once(unusable: Sequence[tuple[str, object, Message]], *, taken: Container[str]) -> dict[str, Message]:
    """Return unusable things by name, numbered if the name is taken; log where they are."""
    named: dict[str, Message] = {}
    for name, place, sentence in unusable:
        names = (name, *(f"{name} ({number})" for number in range(2, len(unusable) + 3)))
        named[next(each for each in names if each not in taken and each not in named)] = sentence
        logger.warning("Left out: %s (%s)", sentence, place)
    return named


def with_styles(entry: ModelEntry, styles: Mapping[str, Style]) -> ModelEntry:
    """Return a model with the styles that suit it: a model with its own vocabulary has only those made of its words."""
    fitting = {name: style for name, style in styles.items() if not entry.unknown_words(style.words)}
    return replace(entry, styles=MappingProxyType(fitting))


def _offered(published: Mapping[str, ModelEntry]) -> list[str]:
    default = "" if "SPACE_ID" in os.environ else ",".join(published)
    return [name.strip() for name in os.environ.get(HUB_VARIABLE, default).split(",") if name.strip()]


def _named_paths(text: str) -> list[Path]:
    """Return the paths of a list, each once."""
    return list(dict.fromkeys(absolute(part) for part in listed(text)))


def _entry_from_path(path: Path) -> ModelEntry:
    """Describe a model that IPA_MODELS names.

    Raises:
        UserError: it is not a model; the message says what it is.
        OSError: it cannot be accessed.
    """
    if not path.exists():
        raise UserError("catalog.nothing_there", variable=MODELS_VARIABLE, path=path)
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            raise quantised(str(path), "GGUF")
        if path.suffix.lower() not in CHECKPOINT_ENDINGS:
            raise UserError("catalog.not_safetensors", variable=MODELS_VARIABLE, path=path)
        return entry_from_file(path, name=path.stem)
    if not (path / "model_index.json").is_file():
        raise _no_model_folder(path)
    entry, index = entry_from_folder(path, name=path.name), read_json(path / "model_index.json")
    if "_class_name" in index:
        known_family(index, title=entry.title)
    return entry


def _no_model_folder(path: Path) -> UserError:
    """Return the error for a folder that is not a model's, which says what it is instead."""
    config = read_json(path / "config.json")
    if config:
        sorts = [config.get("_class_name"), *config.get("architectures", ()), config.get("model_type"), "part"]
        sort = next(str(each) for each in sorts if each)[:60]
        return UserError("catalog.part_alone", variable=MODELS_VARIABLE, path=path, part=sort)
    files = sorted(each for each in path.glob("*") if each.suffix.lower() in CHECKPOINT_ENDINGS)
    if not files:
        return UserError("catalog.no_model", variable=MODELS_VARIABLE, path=path)
    try:
        part = contents_of(read_header(files[0], pickles=False)).is_part
    except UserError:
        part = None
    if part:
        return UserError("catalog.holds", variable=MODELS_VARIABLE, path=path, content=part)
    return UserError("catalog.name_the_file", variable=MODELS_VARIABLE, path=path, file=files[0])


def entry_from_file(file: Path, *, name: str) -> ModelEntry:
    """Describe a checkpoint, one file with all weights. Its adapters and settings are in the folder of the same name.

    Args:
        file: the .safetensors file; `dream.safetensors` has the folder `dream` beside it, which may be missing.
        name: of the entry.

    Raises:
        UserError: it is not a checkpoint (the message says what it is), or its ipa_studio.json or words.json cannot be
            understood.
    """
    header = read_header(file, pickles=False)
    contents = contents_of(header)
    contents.check(file.name)
    family = contents.family or SD1  # a file that is no checkpoint at all is reported when it is loaded
    own = own_configuration(file, family)
    if own is not None:
        size, presets = native_size(own), find_presets(own)
    else:
        size, presets = (_trained_side(file, family),) * 2, family.presets
    folder = file.with_suffix("")
    entry = replace(_described(folder, name=name, size=size), location=file, presets=presets)
    return with_own_adapters(with_own_controlnets(entry, folder, unet=header), unet=header)


def _trained_side(file: Path, family: Family) -> int:
    """Return the native side, in pixels, of a checkpoint without a configuration that states it.

    Stable Diffusion 2 predicts v at 768 pixels, and its base version predicts noise at 512; the weights of one layer
    show which it is.
    """
    if family.prediction_layer is None or family.epsilon_side is None:
        return family.side
    try:
        with safe_open(file, framework="np") as content:
            weights = content.get_tensor(family.prediction_layer)
    except (SafetensorError, TypeError):  # there is no such layer, or NumPy does not have its type
        return family.side
    return family.side if family.predicts_v(weights) else family.epsilon_side


def entry_from_folder(folder: Path, *, name: str, side: int | None = None) -> ModelEntry:
    """Describe the model in a folder from its content; an optional ipa_studio.json takes precedence.

    Args:
        folder: in diffusers layout; a missing one gives an entry that fails when it is loaded.
        name: of the entry.
        side: native side in pixels; None reads it from the configuration files.

    Raises:
        UserError: ipa_studio.json or words.json cannot be understood.
    """
    size = native_size(folder) if side is None else (side, side)
    return with_own_adapters(with_own_controlnets(_described(folder, name=name, size=size), folder))


def _described(folder: Path, *, name: str, size: tuple[int, int]) -> ModelEntry:
    """Describe the model in a folder, except for its adapters and ControlNets; `size` is its native one in pixels."""
    settings = Manifest.of(folder)
    image_encoder = folder / "image_encoder"
    fast, fast_left_out = _find_fast_way(settings, name=name)
    entry = ModelEntry(
        name=name,
        title=settings.text("title", name.replace("_", " ").replace("-", " ").title()),
        about=settings.text("about"),
        location=folder,
        image_encoder=image_encoder if image_encoder.is_dir() else None,
        pose_reader=find_pose_reader(folder),
        body_poses=find_body_poses(folder),
        width=settings.whole("width", size[0]),
        height=settings.whole("height", size[1]),
        steps=settings.whole("steps", 25),
        guidance_scale=settings.number("guidance_scale", 7.0),
        guidance_start=settings.number("guidance_start", 0.0, between=(0, 0.9)),
        guidance_end=settings.number("guidance_end", 1.0, between=(0.1, 1)),
        negative_prompt=settings.text("negative_prompt"),
        surroundings_prompt=settings.text("surroundings_prompt"),
        licence=settings.text("licence"),
        scheduler=settings.text("scheduler"),
        fast=fast,
        fast_left_out=fast_left_out,
        live=settings.switch("live"),
        presets=find_presets(folder),
        words=MappingProxyType(read_words(folder / WORDS_FILE)),
        dictionaries=MappingProxyType(read_dictionaries(folder)),
    )
    settings.warn_of_unread()
    return entry


def _find_fast_way(settings: Manifest, *, name: str) -> tuple[FastWay | None, Message | None]:
    """Return how a model draws in a few steps, or why the configured way cannot be used: the model works without it."""
    try:
        told = settings.section("fast")
        if told is None:
            return None, None
        way = FastWay(
            lora=told.file("lora", ".safetensors"),
            steps=told.whole("steps", 4),
            guidance_scale=told.number("guidance_scale", 1.0),
            scheduler=told.text("scheduler", needed=Message("allowed.scheduler")),
            scheduler_config=told.values("scheduler_config"),
            licence=told.text("licence"),
        )
    except UserError as error:
        logger.warning("%s: it cannot draw fast: %s", name, error)
        return None, error.message
    told.warn_of_unread()
    return way, None
