"""Reading a model's folder and the settings in its ipa_studio.json, without loading any weights."""

from __future__ import annotations

import difflib
import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.families import Family, Presets, family_of

logger = logging.getLogger(__name__)

DEFAULT_SIDE = 512
_DEFAULT_LATENTS = 64
_BEFORE_0_9 = re.compile(r"0\.[0-8]\b")
VOCABULARIES = ("vocab.json", "tokenizer.json")
"""A tokenizer's folder has at least one of these."""


def read_json(path: Path) -> dict:
    """Read a JSON object; empty if there is no such file.

    Raises:
        UserError: the file is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        # As bytes: editors on Windows may write a byte order mark, or UTF-16, which json detects.
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("file.not_json", path=path, error=error) from error
    if not isinstance(content, dict):
        raise UserError("file.no_json_object", path=path)
    return content


def read_words(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a words.json, {group: [words]}; an empty vocabulary if there is no such file.

    Raises:
        UserError: the file has another form.
    """
    content = read_json(path)
    for group, words in content.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError("file.not_words", path=path, group=repr(group))
    return {group: tuple(words) for group, words in content.items()}


def own_configuration(file: Path, family: Family) -> Path | None:
    """Return the folder in diffusers layout with a checkpoint file's own configuration files.

    Args:
        file: `dream.safetensors` has the folder `dream` beside it, or is itself in its repository's folder.
        family: of the file; a configuration of another family around it belongs to another model.

    Returns:
        The folder; None if there is neither.
    """
    beside = file.with_suffix("")
    if (beside / "model_index.json").is_file():
        return beside
    folders = repository_folders(file)
    return next((each for each in folders if family.has_saved(read_json(each / "model_index.json"))), None)


def is_whole_configuration(folder: Path, family: Family) -> bool:
    """Whether a folder has all files that a model of a family needs beside its weights.

    The Hub's cache keeps whatever has been requested, which may be one file of many.
    """
    configs = [folder / name / "config.json" for name in family.modules]
    needed = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json", *configs]
    return all(path.is_file() for path in needed) and all(
        any((folder / name / file).is_file() for file in VOCABULARIES) for name in family.tokenizers
    )


def repository_folders(file: Path) -> list[Path]:
    """Return the folder of a file, and that of its whole repository if the file is deeper in the Hub's cache."""
    root = next((folder for folder in file.parents if folder.parent.name == "snapshots"), file.parent)
    return list(dict.fromkeys((file.parent, root)))


def find_pose_reader(folder: Path) -> Path | None:
    """Return the weights of a model's own pose reader, `pose_reader/model.safetensors`; None if it has none."""
    path = folder / "pose_reader" / "model.safetensors"
    return path if path.is_file() else None


def find_body_poses(folder: Path) -> Path | None:
    """Return the poses of the one body that a model has learned, `body_poses.json`; None if it has no such file."""
    path = folder / "body_poses.json"
    return path if path.is_file() else None


def native_size(folder: Path) -> tuple[int, int]:
    """Return the width and height, in pixels, that diffusers draws with a model, from its configuration files."""
    blocks = read_json(folder / "vae" / "config.json").get("block_out_channels")
    if not isinstance(blocks, list):
        return DEFAULT_SIDE, DEFAULT_SIDE
    width, height = latent_size(read_json(folder / "unet" / "config.json"))
    return width * 2 ** (len(blocks) - 1), height * 2 ** (len(blocks) - 1)


def latent_size(unet: Mapping[str, Any]) -> tuple[int, int]:
    """Return the width and height, in latents, that diffusers draws with a UNet.

    Source: diffusers StableDiffusionPipeline. Before its version 0.9, models of 64 latents were saved as of 32.

    Args:
        unet: its config.json; a size that is not stated is that of Stable Diffusion 1.x.
    """
    match unet.get("sample_size"):
        case int(side) if side > 0:
            side = max(side, _DEFAULT_LATENTS) if _BEFORE_0_9.match(str(unet.get("_diffusers_version"))) else side
            return side, side
        case [int(height), int(width)] if height > 0 and width > 0:
            return width, height
    return _DEFAULT_LATENTS, _DEFAULT_LATENTS


def find_presets(folder: Path) -> Presets:
    """Return the presets of the model in a folder from its configuration files."""
    family = family_of(read_json(folder / "model_index.json"))
    return family.presets_of(read_json(folder / "unet" / "config.json")) if family else {}


_MANIFEST = "ipa_studio.json"


class Manifest:
    """The settings in a model folder's ipa_studio.json, checked when read; without the file all have their defaults."""

    def __init__(self, path: Path, values: Mapping[str, Any], *, within: str = "") -> None:
        """Hold settings.

        Args:
            path: of the file.
            values: its content.
            within: prefix of these settings' names in messages.
        """
        self._path = path
        self._values = values
        self._within = within
        self._asked: set[str] = set()

    @classmethod
    def of(cls, folder: Path) -> Manifest:
        """Read the file of a folder.

        Raises:
            UserError: it is not a JSON object.
        """
        return cls(folder / _MANIFEST, read_json(folder / _MANIFEST))

    def warn_of_unread(self) -> None:
        """Log a warning on settings that were never read, such as misspelt ones; call it once all have been read."""
        for key in sorted(self._values.keys() - self._asked):
            alike = difflib.get_close_matches(key, self._asked, n=1)
            meant = f"; did you mean {self._within}{alike[0]}?" if alike else "."
            logger.warning("%s: there is no setting %s%s%s", self._path, self._within, key, meant)

    def section(self, key: str) -> Manifest | None:
        """Return the group of settings under a key; None if there is none.

        Raises:
            UserError: it is something else.
        """
        value = self._value(key, None)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, value, Message("allowed.json_object"))
        return None if value is None else Manifest(self._path, value, within=f"{self._within}{key}.")

    def values(self, key: str) -> Mapping[str, Any]:
        """Return the values under a key, whatever they are; empty if there are none.

        Raises:
            UserError: it is not a JSON object.
        """
        section = self.section(key)
        return section._values if section else {}

    def file(self, key: str, ending: str) -> Path:
        """Return a setting that names a file in the folder.

        Raises:
            UserError: the file is elsewhere, has another ending, or does not exist.
        """
        name = self.text(key)
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.suffix.lower() != ending:
            raise self._wrong(key, name, Message("allowed.file_inside", ending=ending))
        found = self._path.parent / path
        if not found.is_file():
            raise UserError("file.named_not_there", path=self._path, key=f"{self._within}{key}", file=name)
        return found

    def text(self, key: str, default: str = "", *, needed: Message | None = None) -> str:
        """Return a setting that is text.

        Args:
            key: of the setting.
            default: used if it is missing.
            needed: what it must be, for the message; None if it may be empty.

        Raises:
            UserError: it is something else, or missing although it is needed.
        """
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, Message("allowed.text"))
        if needed is not None and not value.strip():
            raise self._wrong(key, value, needed)
        return value

    def whole(self, key: str, default: int) -> int:
        """Return a setting that is a whole number above 0.

        Raises:
            UserError: it is something else.
        """
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self._wrong(key, value, Message("allowed.above_0"))
        return value

    def number(self, key: str, default: float, *, between: tuple[float, float] = (1, math.inf)) -> float:
        """Return a setting that is a number within bounds; by default, at least 1.

        Raises:
            UserError: it is something else.
        """
        value = self._value(key, default)
        least, most = between
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most or value == math.inf:
            bounds = {"kind": Message("allowed.number"), "least": least}
            if most == math.inf:
                raise self._wrong(key, value, Message("allowed.at_least", **bounds))
            raise self._wrong(key, value, Message("allowed.between", most=most, **bounds))
        return float(value)

    def switch(self, key: str) -> bool:
        """Return a setting that is true or false; false if it is missing.

        Raises:
            UserError: it is something else.
        """
        value = self._value(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, value, Message("allowed.switch"))
        return value

    def _value(self, key: str, default: object) -> Any:
        self._asked.add(key)
        return self._values.get(key, default)

    def _wrong(self, key: str, value: object, wanted: Message) -> UserError:
        return UserError(
            "file.wrong_value", path=self._path, key=f"{self._within}{key}", value=repr(value), allowed=wanted
        )
