"""Write results as files with metadata on how they were made, for this and other programs.

The notes are the settings as JSON, a paragraph for other programs, and every input picture (see `packing`). In PNG they
are plain text chunks. In JPEG and WebP the paragraph is the EXIF user comment, where those programs look for it; the
rest is in custom segments in JPEG, whose EXIF data is 64 KB at most, and in the EXIF maker note in WebP. Notes are not
compressed again, so that reading them can never expand to more than the file holds. The settings and the pictures may
also be a JSON file of their own.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, get_args

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from ipa_app.errors import UserError
from ipa_app.imaging.formats import check_parts
from ipa_app.imaging.packing import LONGEST_SIDE, unpack_picture
from ipa_app.runtime import written_whole

SETTINGS_KEY = "ip_adapter_studio"
_PICTURES_KEY = "pictures"
# The key under which most Stable Diffusion programs look for a one-paragraph description.
PARAMETERS_KEY = "parameters"

# In the order that other programs expect; Size comes after Seed.
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
OutputFormat = Literal["png", "jpeg", "webp"]
EXACT_FORMATS = ("png", "webp")
"""The lossless formats, which also keep transparency."""

_JPEG_QUALITY = 95
_WEBP_EFFORT = 50  # compression effort
_SEGMENT, _SEGMENT_BYTES = 0xFFE7, 65_000
"""Marker of our JPEG segments (APP7, which no standard uses), and the bytes of notes in each."""
_LONG, _UNDEFINED = 4, 7  # TIFF's type numbers
_MARK = SETTINGS_KEY.encode() + b"\0"
_MOST_NOTES = 16
_LONGEST_SETTINGS = 2**20
_LARGEST_FILE = 64 * 2**20
# What Pillow raises for files of other formats, for broken ones, and for notes beyond its limits.
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, RecursionError, Image.DecompressionBombError)


class NotMadeHereError(UserError):
    """A file contains no settings of this program."""

    def __init__(self) -> None:
        super().__init__("recipe.not_made_here")


@dataclass(frozen=True)
class _Format:
    """How to write results in a format.

    Attributes:
        suffix: of file names.
        save: writes a picture with its notes.
    """

    suffix: str
    save: Callable[[Image.Image, IO[bytes], Mapping[str, str]], None]


def write_result(
    image: Image.Image,
    path: str | Path,
    settings: Mapping[str, Any],
    *,
    inputs: Mapping[str, str] | None = None,
    output_format: OutputFormat = "png",
) -> None:
    """Write a picture with its settings: lossless as PNG or WebP, nearly lossless as JPEG.

    The same picture, settings and inputs give the same bytes. An existing file is replaced atomically: two pages may
    follow one job, and a browser may be loading what the other one wrote.

    Args:
        image: the result, mode "RGB"; or "RGBA" in a lossless format.
        path: the destination; its folder exists.
        settings: JSON-serialisable, with finite numbers; "seed" is this picture's own.
        inputs: packed input pictures by name.
        output_format: of the file, whatever its suffix.

    Raises:
        ValueError: a setting is not finite.
        TypeError: a setting is not JSON-serialisable.
        OSError: the disk is full.
    """
    notes = {
        SETTINGS_KEY: json.dumps(settings, allow_nan=False, sort_keys=True),
        PARAMETERS_KEY: _parameters(settings, image.size),
        **{_input_key(name): text for name, text in sorted((inputs or {}).items())},
    }
    with whole_file(path) as file:
        _FORMATS[output_format].save(image, file, notes)


@contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for atomic writing: it appears, replacing any older one, only once it is completely written.

    Raises:
        OSError: there is no room for it.
    """
    with written_whole(Path(path), by_many=True) as part, part.open("wb") as file:
        yield file


def is_whole_file(path: str | Path) -> bool:
    """Whether a file is a complete picture in one of the formats, as far as the format can tell.

    Pixels are not decoded: every chunk of a PNG is checked, and the start of other files.
    """
    try:
        with Image.open(path, formats=get_args(OutputFormat)) as image:
            image.verify()
    except _UNREADABLE:
        return False
    return True


def file_suffix(output_format: OutputFormat) -> str:
    """Return the file suffix of a format, with the dot."""
    return _FORMATS[output_format].suffix


def read_settings(path: str | Path) -> dict[str, Any] | None:
    """Read the settings that `write_result` wrote; None for any other file. Only the header is read."""
    try:
        settings = json.loads(_notes(path)[SETTINGS_KEY])
    except (*_UNREADABLE, KeyError):
        return None
    return settings if isinstance(settings, dict) else None


def read_record(path: str | Path, *, names: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """Read settings and input pictures from an untrusted file.

    Args:
        path: of any file.
        names: the inputs that may be in it, each with its kind ("reference", "image", "mask" or "pose"); others
            are ignored.

    Returns:
        The settings, with finite numbers but otherwise unchecked, and the pictures found, as `unpack_picture` returns
        them.

    Raises:
        NotMadeHereError: it is not a picture made here.
        UserError: it is damaged.
    """
    try:
        notes = _notes(path)
    except _UNREADABLE as error:
        raise NotMadeHereError from error
    if not isinstance(notes.get(SETTINGS_KEY), str):
        raise NotMadeHereError
    text = notes[SETTINGS_KEY]
    try:
        settings = json.loads(text, parse_constant=_refuse_constant) if len(text) <= _LONGEST_SETTINGS else None
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise UserError("recipe.damaged")
    packed = {name: notes[_input_key(name)] for name in names if _input_key(name) in notes}
    return settings, {
        name: unpack_picture(str(text), longest=LONGEST_SIDE[names[name]]) for name, text in packed.items()
    }


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Return the settings and packed input pictures of a result's file, as JSON that `read_record` also reads.

    Raises:
        NotMadeHereError: it is not a file made here.
    """
    settings = read_settings(path)
    if settings is None:
        raise NotMadeHereError
    start = _input_key("")
    notes = {str(key): text for key, text in _notes(path).items()}
    pictures = {key.removeprefix(start): text for key, text in notes.items() if key.startswith(start)}
    return {SETTINGS_KEY: settings, _PICTURES_KEY: pictures}


def _notes(path: str | Path) -> dict[Any, Any]:
    """Read the notes of a picture, without decoding its pixels, or of a recipe in JSON."""
    if Path(path).stat().st_size > _LARGEST_FILE:
        raise ValueError("far larger than anything written here")
    with Path(path).open("rb") as file:
        if file.read(1) == b"{":
            return _notes_in_json(b"{" + file.read())
        file.seek(0)
        check_parts(file)
        with Image.open(file, formats=get_args(OutputFormat)) as image:
            if image.format == "PNG":
                return dict(image.info)
            return _taken_apart(_maker_note(image) if image.format == "WEBP" else _segments(image))


def _notes_in_json(data: bytes) -> dict[str, str]:
    """Read notes from a file of their own, without a picture.

    Raises:
        ValueError: it is not such a file.
    """
    recipe = json.loads(data, parse_constant=_refuse_constant)
    pictures = recipe.get(_PICTURES_KEY, {})
    if SETTINGS_KEY not in recipe or not isinstance(pictures, dict):
        raise ValueError("no recipe")
    return {SETTINGS_KEY: json.dumps(recipe[SETTINGS_KEY]), **{_input_key(name): pictures[name] for name in pictures}}


def _save_png(image: Image.Image, file: IO[bytes], notes: Mapping[str, str]) -> None:
    info = PngInfo()
    for name, text in notes.items():
        info.add_text(name, text)
    image.save(file, format="PNG", pnginfo=info)


def _save_jpeg(image: Image.Image, file: IO[bytes], notes: Mapping[str, str]) -> None:
    text = _put_together(notes)
    segments = b"".join(
        struct.pack(">HH", _SEGMENT, 2 + len(_MARK) + len(part)) + _MARK + part
        for part in (text[at : at + _SEGMENT_BYTES] for at in range(0, len(text), _SEGMENT_BYTES))
    )
    exif = _exif({ExifTags.Base.UserComment: _comment(notes)})
    # Writing directly to a file on a full disk, Pillow would silently truncate it.
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=_JPEG_QUALITY, subsampling=0, exif=exif, extra=segments)
    file.write(data.getvalue())


def _save_webp(image: Image.Image, file: IO[bytes], notes: Mapping[str, str]) -> None:
    exif = _exif({ExifTags.Base.MakerNote: _MARK + _put_together(notes), ExifTags.Base.UserComment: _comment(notes)})
    # exact=True also keeps colours under transparent parts.
    image.save(file, format="WEBP", lossless=True, quality=_WEBP_EFFORT, method=4, exact=True, exif=exif)


_FORMATS: Mapping[OutputFormat, _Format] = {
    "png": _Format(".png", _save_png),
    "jpeg": _Format(".jpg", _save_jpeg),
    "webp": _Format(".webp", _save_webp),
}


FILE_SUFFIXES = tuple(each.suffix for each in _FORMATS.values())


def _put_together(notes: Mapping[str, str]) -> bytes:
    """Encode all notes except the paragraph for other programs as alternating names and texts, in ASCII."""
    return "\0".join(word for name, text in notes.items() if name != PARAMETERS_KEY for word in (name, text)).encode()


def _taken_apart(data: bytes) -> dict[str, str]:
    words = data.decode("ascii", "replace").split("\0", 2 * _MOST_NOTES)
    return dict(zip(words[::2], words[1::2], strict=False))


def _comment(notes: Mapping[str, str]) -> bytes:
    """Encode the paragraph as EXIF 2.32 and the programs that read it expect."""
    return b"UNICODE\0" + notes[PARAMETERS_KEY].encode("utf-16-be")


def _exif(tags: Mapping[int, bytes]) -> bytes:
    """Build EXIF data with a few long untyped values, which Pillow would declare as lists of numbers.

    Source: EXIF 2.32, section 4.6: a TIFF file whose only entry is the offset of its EXIF entries.
    """
    start = 8 + 18
    at = start + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, value in sorted(tags.items()):
        entries += struct.pack(">HHII", tag, _UNDEFINED, len(value), at + len(values))
        values += value
    head = struct.pack(">2sHI", b"MM", 42, 8) + struct.pack(">HHHIII", 1, ExifTags.IFD.Exif, _LONG, 1, start, 0)
    return b"Exif\0\0" + head + struct.pack(">H", len(tags)) + entries + bytes(4) + values


def _segments(image: Image.Image) -> bytes:
    """Join the contents of our segments in a JPEG."""
    name = f"APP{_SEGMENT & 15}"
    found = (data for segment, data in getattr(image, "applist", ()) if segment == name and data.startswith(_MARK))
    return b"".join(data.removeprefix(_MARK) for data in found)


def _maker_note(image: Image.Image) -> bytes:
    """Return the content of our maker note; empty if there is none, or another program's."""
    try:
        note = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.MakerNote)
    except Exception as error:
        # Pillow raises anything for damaged EXIF data.
        raise ValueError("its EXIF data is damaged") from error
    return note.removeprefix(_MARK) if isinstance(note, bytes) and note.startswith(_MARK) else b""


def _input_key(name: str) -> str:
    return f"{SETTINGS_KEY}:{name}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no setting")


def _parameters(settings: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Describe the settings in the AUTOMATIC1111 convention: prompt, negative prompt, then `Name: value` pairs."""
    # Styles are known only here, so their words are merged into the prompts.
    prompt, negative = (settings.get(f"styled_{name}", settings.get(name)) for name in ("prompt", "negative_prompt"))
    lines = [str(prompt or "")]
    if negative:
        lines.append(f"Negative prompt: {negative}")
    values = {**settings, "size": f"{size[0]}x{size[1]}"}
    lines.append(
        ", ".join(
            f"{title}: {_quoted(values[key])}" for key, title in _PARAMETER_NAMES.items() if values.get(key) is not None
        )
    )
    # Lone surrogates and zero bytes can be typed into a prompt but not written to a PNG text chunk.
    return "\n".join(lines).replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _quoted(value: Any) -> str:
    """Quote a value by the convention if it contains commas, colons or line breaks."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:"\n') else text
