"""Results as PNG files that carry how they were made, for this program and for others that read such notes.

The notes are plain PNG text chunks: the settings as JSON, a paragraph for other programs, and every input picture
(see `packing`). None is compressed again, so that reading them can never unfold into more than the file holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, NoReturn, cast

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ipa_app.errors import UserError
from ipa_app.imaging.packing import LONGEST_SIDE, unpack_picture

SETTINGS_KEY = "ip_adapter_studio"
# The name under which most Stable Diffusion programs look for a one-paragraph description.
PARAMETERS_KEY = "parameters"

# In the order in which the programs that read them expect them; Size comes after Seed.
_PARAMETER_NAMES = {
    "steps": "Steps",
    "scheduler": "Sampler",
    "guidance_scale": "CFG scale",
    "seed": "Seed",
    "size": "Size",
    "model": "Model",
    "task": "Task",
    "adapter": "IP-Adapter",
    "scale": "IP-Adapter scale",
    "control_scale": "ControlNet scale",
    "strength": "Denoising strength",
}
_LARGEST_FILE = 64 * 2**20
# What Pillow raises at files that are no PNG, or a broken one; and at notes beyond its own limits.
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, RecursionError, Image.DecompressionBombError)


class NotMadeHereError(UserError):
    """A file holds no settings of this program."""

    def __init__(self) -> None:
        super().__init__("recipe.not_made_here")


def write_png(
    image: Image.Image, path: str | Path, settings: Mapping[str, Any], *, inputs: Mapping[str, str] | None = None
) -> None:
    """Write a picture losslessly with its settings.

    The same picture, settings and inputs give the same bytes. A file that is there is replaced whole: two pages may
    follow one job, and a browser may be loading what the other one wrote.

    Args:
        image: the result.
        path: where to; the folder exists.
        settings: JSON-able, finite numbers; "seed" is this picture's own.
        inputs: the packed pictures it was made from, by name.

    Raises:
        ValueError: a setting is not finite.
        TypeError: a setting is not JSON-able.
        OSError: there is no room for it.
    """
    notes = PngInfo()
    notes.add_text(SETTINGS_KEY, json.dumps(settings, allow_nan=False, sort_keys=True))
    notes.add_text(PARAMETERS_KEY, _parameters(settings, image.size))
    for name, text in sorted((inputs or {}).items()):
        notes.add_text(_input_key(name), text)
    with whole_file(path) as file:
        image.save(file, format="PNG", pnginfo=notes)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that is there, in place of an older one, once all of it is written, and not at all otherwise.

    Raises:
        OSError: there is no room for it.
    """
    with NamedTemporaryFile(dir=Path(path).parent, suffix=".part", delete=False) as file:
        part = Path(file.name)
        try:
            yield cast(BinaryIO, file)
        except BaseException:
            # On a full disk the half that there was room for would only keep others from theirs.
            part.unlink()
            raise
    part.replace(path)


def is_whole_png(path: str | Path) -> bool:
    """Return whether a file is a PNG with nothing missing or changed; its pixels are not decoded."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()
    except _UNREADABLE:
        return False
    return True


def read_settings(path: str | Path) -> dict[str, Any] | None:
    """Read back what `write_png` noted; None for any other file. Only the header is read."""
    try:
        settings = json.loads(_notes(path)[SETTINGS_KEY])
    except (*_UNREADABLE, KeyError):
        return None
    return settings if isinstance(settings, dict) else None


def read_record(path: str | Path, *, names: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """Read back settings and input pictures from a file that anybody may have made.

    Args:
        path: of any file at all.
        names: the inputs that may be in it, each with its kind ("reference", "image", "mask" or "pose"); others
            are not looked at.

    Returns:
        The settings, finite and of any content, and the pictures that are there, as `unpack_picture` returns them.

    Raises:
        NotMadeHereError: it is no picture made here.
        UserError: it is damaged.
    """
    try:
        notes = _notes(path)
    except _UNREADABLE as error:
        raise NotMadeHereError from error
    if not isinstance(notes.get(SETTINGS_KEY), str):
        raise NotMadeHereError
    try:
        settings = json.loads(notes[SETTINGS_KEY], parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise UserError("recipe.damaged")
    packed = {name: notes[_input_key(name)] for name in names if _input_key(name) in notes}
    return settings, {
        name: unpack_picture(str(text), longest=LONGEST_SIDE[names[name]]) for name, text in packed.items()
    }


def _notes(path: str | Path) -> dict[Any, Any]:
    """Read the notes of a PNG without decoding its pixels."""
    if Path(path).stat().st_size > _LARGEST_FILE:
        raise ValueError("far larger than anything written here")
    with Image.open(path, formats=["PNG"]) as image:
        return dict(image.info)


def _input_key(name: str) -> str:
    return f"{SETTINGS_KEY}:{name}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no setting")


def _parameters(settings: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Describe the settings in the AUTOMATIC1111 convention: prompt, negative prompt, then `Name: value` pairs."""
    lines = [str(settings.get("prompt", ""))]
    if settings.get("negative_prompt"):
        lines.append(f"Negative prompt: {settings['negative_prompt']}")
    values = {**settings, "size": f"{size[0]}x{size[1]}"}
    lines.append(
        ", ".join(
            f"{title}: {_quoted(values[key])}" for key, title in _PARAMETER_NAMES.items() if values.get(key) is not None
        )
    )
    # Half surrogates and zero bytes can be typed into a prompt but not written into a PNG note.
    return "\n".join(lines).replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _quoted(value: Any) -> str:
    """Write a value so that its own commas, colons and line breaks end nothing, as the convention has it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:"\n') else text
