"""The bundled poses: OpenPose files, each with a drawn picture beside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ipa_app.messages import Message
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton

POSES_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "poses"


def presets() -> dict[str, Skeleton]:
    """Return all preset poses by name ("arms up"), in alphabetical order."""
    return {name: sheet.skeleton for name, sheet in _read_presets()}


def preset_sheets() -> dict[str, PoseSheet]:
    """Return all preset poses by name, each on its canvas, in alphabetical order."""
    return dict(_read_presets())


def preset_pictures() -> dict[str, Path]:
    """Return every preset's drawn skeleton, a PNG file that serves both as preview and as pose picture.

    They are drawn in advance because drawing needs torch, and the page shows presets before torch is loaded.
    """
    return {_name(path): path for path in sorted(POSES_FOLDER.glob("*.png"))}


def preset_title(name: str) -> Message:
    """Return the display name of a preset."""
    return Message(f"preset.{name.replace(' ', '_')}")


def preset_file(name: str) -> Path:
    """Return the path of the preset called `name`."""
    return POSES_FOLDER / f"{name.replace(' ', '_')}.json"


@cache
def _read_presets() -> tuple[tuple[str, PoseSheet], ...]:
    paths = sorted(POSES_FOLDER.glob("*.json"))
    return tuple((_name(path), PoseSheet.from_json(path.read_text("utf-8"))) for path in paths)


def _name(path: Path) -> str:
    return path.stem.replace("_", " ")
