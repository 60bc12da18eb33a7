"""Results as PNG files that carry how they were made, for this program and for others that read such notes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SETTINGS_KEY = "ip_adapter_studio"
# The name under which most Stable Diffusion programs look for a one-paragraph description.
PARAMETERS_KEY = "parameters"

_PARAMETER_NAMES = {
    "steps": "Steps",
    "scheduler": "Sampler",
    "guidance_scale": "CFG scale",
    "seed": "Seed",
    "model": "Model",
    "task": "Task",
    "adapter": "IP-Adapter",
    "scale": "IP-Adapter scale",
    "control_scale": "ControlNet scale",
}


def write_png(image: Image.Image, path: str | Path, settings: Mapping[str, Any]) -> None:
    """Write a picture losslessly with its settings.

    The same picture and settings give the same bytes.

    Args:
        image: the result.
        path: where to; the folder exists.
        settings: JSON-able, finite numbers; "seed" is this picture's own.

    Raises:
        ValueError: a setting is not finite.
        TypeError: a setting is not JSON-able.
    """
    notes = PngInfo()
    notes.add_text(SETTINGS_KEY, json.dumps(settings, allow_nan=False, sort_keys=True))
    notes.add_text(PARAMETERS_KEY, _parameters(settings, image.size))
    image.save(path, format="PNG", pnginfo=notes)


def read_settings(path: str | Path) -> dict[str, Any] | None:
    """Read back what `write_png` noted; None for any other file. Only the header is read."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            settings = json.loads(image.info[SETTINGS_KEY])
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, RecursionError, Image.DecompressionBombError):
        return None
    return settings if isinstance(settings, dict) else None


def _parameters(settings: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Describe the settings in the AUTOMATIC1111 convention: prompt, negative prompt, then `Name: value` pairs."""
    lines = [str(settings.get("prompt", ""))]
    if settings.get("negative_prompt"):
        lines.append(f"Negative prompt: {settings['negative_prompt']}")
    pairs = [f"{title}: {settings[key]}" for key, title in _PARAMETER_NAMES.items() if settings.get(key) is not None]
    lines.append(", ".join([*pairs, f"Size: {size[0]}x{size[1]}"]))
    # Half surrogates and zero bytes can be typed into a prompt but not written into a PNG note.
    return "\n".join(lines).replace("\0", "").encode("utf-8", "replace").decode("utf-8")
