"""Reading what lies in a model folder without loading any of it."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ipa_app.errors import UserError

DEFAULT_SIDE = 512
SDXL_SIDE = 1024


def read_json(path: Path) -> dict:
    """Read a JSON object; a file that is not there is an empty one.

    Raises:
        UserError: the file is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable JSON: {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object.")
    return content


def read_words(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a words.json, {group: [words]}; a file that is not there is an empty vocabulary.

    Raises:
        UserError: the file has another form.
    """
    content = read_json(path)
    for group, words in content.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError(f"{path}: the group {group!r} must be a list of words.")
    return {group: tuple(words) for group, words in content.items()}


def find_controlnets(folder: Path) -> dict[str, Path]:
    """Find the pose ControlNet of a model: its folder `controlnet`, when it has one."""
    path = folder / "controlnet"
    return {"pose": path} if (path / "config.json").is_file() else {}


def find_pose_reader(folder: Path) -> Path | None:
    """Find the weights of a model's own pose reader: `pose_reader/model.safetensors`, when it has one."""
    path = folder / "pose_reader" / "model.safetensors"
    return path if path.is_file() else None


def native_side(folder: Path) -> int:
    """The side in pixels of the pictures that a model was trained on, from its configuration files."""
    sample_size = read_json(folder / "unet" / "config.json").get("sample_size")
    blocks = read_json(folder / "vae" / "config.json").get("block_out_channels")
    if not isinstance(sample_size, int) or not isinstance(blocks, list):
        return DEFAULT_SIDE
    return sample_size * 2 ** (len(blocks) - 1)


def is_sdxl_checkpoint(file: Path) -> bool:
    """Whether a checkpoint file's model is an SDXL, by the encoders it has."""
    return any(key.startswith("conditioner.embedders.1.") for key in _keys(file))


def _keys(path: Path) -> set[str]:
    """The names of a safetensors file's tensors; none where it cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            return set(file.keys())
    except (OSError, SafetensorError):
        return set()
