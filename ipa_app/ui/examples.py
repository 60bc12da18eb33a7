"""The example pictures on the page, read from a folder; an empty folder just means no examples.

`examples.json` is a list of objects. "file" (the reference picture) and "tab" (the task's name) are required; "prompt",
"adapter", "scale", "seed", "image" and "mask" (inpainting) and "pose" (the name of a preset) are optional.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.messages import titled
from ipa_app.options import options

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Example:
    """The inputs that one click sets. The files `file`, `image` and `mask` exist."""

    tab: str
    file: Path
    prompt: str = ""
    adapter: str = "base"
    scale: float = 1.0
    seed: int = -1
    image: Path | None = None
    mask: Path | None = None
    pose: str | None = None

    @property
    def title(self) -> str:
        """What its picture shows; for an example that does not ship with the app, the file name."""
        return titled(f"example.{self.file.stem.replace('-', '_')}", self.file.name)


def read_examples(folder: Path) -> tuple[Example, ...]:
    """Read the folder's `examples.json`; an unusable entry is logged and left out."""
    listing = folder / "examples.json"
    if not listing.is_file():
        return ()
    entries = json.loads(listing.read_text(encoding="utf-8"))
    examples = []
    for entry in entries:
        try:
            examples.append(_example(entry, folder=folder))
        except (KeyError, TypeError, ValueError, FileNotFoundError) as error:
            _log.warning("Example left out of the page: %r (%s)", entry, error)
    return tuple(examples)


def _example(entry: dict[str, Any], *, folder: Path) -> Example:
    if entry["tab"] not in TASKS:
        raise ValueError(f"unknown tab {entry['tab']!r}")
    files = {key: _existing(folder / entry[key]) for key in ("file", "image", "mask") if entry.get(key)}
    scale = entry.get("scale", TASKS[entry["tab"]].default_of(options(GenerateRequest)["scale"]))
    return Example(**{**entry, **files, "scale": float(scale)})


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(path.name)
    return path.resolve()
