"""What base models there are. An entry is data; nothing is loaded here and torch is not imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ipa_app.errors import UserError
from ipa_app.models.adapters import with_own_adapters
from ipa_app.models.entry import ModelEntry
from ipa_app.models.folder import (
    DEFAULT_SIDE,
    SDXL_SIDE,
    find_controlnets,
    find_pose_reader,
    is_sdxl_checkpoint,
    native_side,
    read_words,
)
from ipa_app.models.presets import NO_PRESETS, SDXL_PRESETS, find_presets
from ipa_app.models.published import published_models
from ipa_app.models.studio_file import StudioFile

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "toybox"
MODELS_VARIABLE = "IPA_MODELS"
HUB_VARIABLE = "IPA_HUB_MODELS"
WORDS_FILE = "words.json"


def catalog() -> Mapping[str, ModelEntry]:
    """List the bundled model, those offered from the Hub, and every folder that the variable IPA_MODELS names.

    IPA_MODELS holds folders in diffusers layout and checkpoint files, separated as in PATH. One called like another
    model here stands in for it. IPA_HUB_MODELS names the models offered from the Hub, separated by commas; without it
    all are, except on a Space, where any visitor could fill the disk.

    Returns:
        Entries by name, the bundled model first.

    Raises:
        UserError: IPA_MODELS names something else, or two of the same name; IPA_HUB_MODELS names another model.
    """
    entries = {"toybox": entry_from_folder(BUNDLED, name="toybox"), **_offered()}
    named: set[str] = set()
    for text in filter(None, os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)):
        entry = _entry_from_path(Path(text).expanduser().resolve())
        if entry.name in named:
            raise UserError(f"{MODELS_VARIABLE} names two models called {entry.name}; rename one of them.")
        named.add(entry.name)
        entries[entry.name] = entry
    return MappingProxyType(entries)


def _offered() -> dict[str, ModelEntry]:
    published = {entry.name: entry for entry in published_models()}
    default = "" if "SPACE_ID" in os.environ else ",".join(published)
    names = [name.strip() for name in os.environ.get(HUB_VARIABLE, default).split(",") if name.strip()]
    for name in names:
        if name not in published:
            raise UserError(f"{HUB_VARIABLE} names {name!r}; there is {', '.join(published)}.")
    return {name: published[name] for name in names}


def _entry_from_path(path: Path) -> ModelEntry:
    if path.is_file() and path.suffix == ".safetensors":
        return entry_from_file(path, name=path.stem)
    if not (path / "model_index.json").is_file():
        raise UserError(
            f"{MODELS_VARIABLE} names {path}, which is no model folder (it has no model_index.json) and no "
            ".safetensors file."
        )
    return entry_from_folder(path, name=path.name)


def entry_from_file(file: Path, *, name: str) -> ModelEntry:
    """Describe a checkpoint, one file with all weights. Its adapters and settings lie in the folder named like it.

    Args:
        file: the .safetensors file; `dream.safetensors` has the folder `dream` beside it, which may be missing.
        name: of the entry.

    Raises:
        UserError: ipa_studio.json or words.json cannot be understood.
    """
    is_sdxl = is_sdxl_checkpoint(file)
    entry = _described(file.with_suffix(""), name=name, side=SDXL_SIDE if is_sdxl else DEFAULT_SIDE)
    return with_own_adapters(replace(entry, location=file, presets=SDXL_PRESETS if is_sdxl else NO_PRESETS))


def entry_from_folder(folder: Path, *, name: str, side: int | None = None) -> ModelEntry:
    """Describe the model in a folder from what lies in it; an optional ipa_studio.json has the last word.

    Args:
        folder: in diffusers layout; a missing one gives an entry that fails when it is loaded.
        name: of the entry.
        side: native side in pixels; None takes it from the configuration files.

    Raises:
        UserError: ipa_studio.json or words.json cannot be understood.
    """
    return with_own_adapters(_described(folder, name=name, side=side))


def _described(folder: Path, *, name: str, side: int | None) -> ModelEntry:
    """Describe the model in a folder but for its adapters."""
    settings = StudioFile(folder)
    side = side or native_side(folder)
    image_encoder = folder / "image_encoder"
    return ModelEntry(
        name=name,
        title=settings.text("title", name.replace("_", " ").replace("-", " ").title()),
        about=settings.text("about"),
        location=folder,
        image_encoder=image_encoder if image_encoder.is_dir() else None,
        controlnets=MappingProxyType(find_controlnets(folder)),
        pose_reader=find_pose_reader(folder),
        width=settings.whole("width", side),
        height=settings.whole("height", side),
        steps=settings.whole("steps", 25),
        guidance_scale=settings.number("guidance_scale", 7.0),
        negative_prompt=settings.text("negative_prompt"),
        licence=settings.text("licence"),
        scheduler=settings.text("scheduler"),
        presets=find_presets(folder),
        words=MappingProxyType(read_words(folder / WORDS_FILE)),
    )
