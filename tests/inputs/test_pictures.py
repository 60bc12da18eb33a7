"""Every row of "Pictures" in docs/inputs.md, through the form shared by page and API."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.imaging.opening import CLIP_MEAN
from ipa_app.ui.form import build_request
from tests.inputs.tables import rows
from tests.picture_files import (
    COLOURS,
    adobe_profile,
    cmyk_profile,
    encoded,
    in_2020,
    in_adobe_rgb,
    in_p3,
    linear_grey_profile,
    middles,
    p3_profile,
    patches,
    png_with,
)

ROWS = rows("Pictures")
PATCHES = patches(COLOURS)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
PHOTO = NOISE.resize((640, 480), Image.Resampling.BICUBIC)
JPEG = encoded(PHOTO, "JPEG", quality=90)


class Door:
    """Passes files to the form, as uploads of a reference unless another field is named."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, data: bytes, field: str = "reference") -> tuple[Image.Image, str | None]:
        """Return the picture in the request, and the note about it."""
        path = self.folder / "upload"
        path.write_bytes(data)
        upload = {"path": str(path)}
        request = self._request(upload, field)
        picture = request.references[0].image if field == "reference" else getattr(request, field)
        assert len(request.notes) <= 1
        return picture, next(iter(request.notes), None)

    def refusal(self, data: bytes) -> str:
        with pytest.raises(UserError) as refused:
            self(data)
        return str(refused.value)

    def _request(self, upload: dict[str, str], field: str) -> GenerateRequest:
        if field == "reference":
            return build_request("variation", {"reference": upload})
        task = {"image": "inpaint", "start_image": "mix", "pose": "pose"}[field]
        values: dict[str, Any] = {"prompt": "a cat", "extend_up": 50} if task == "inpaint" else {"prompt": "a cat"}
        return build_request(task, {**values, field: upload})


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def shows(picture: Image.Image, tolerance: int = 6) -> bool:
    return picture.mode == "RGB" and bool(np.abs(middles(picture) - COLOURS).max() <= tolerance)


def float_tiff(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values.astype(np.float32), photometric="rgb")
    return buffer.getvalue()


def seen_through(colour: tuple[int, int, int] = (120, 120, 120)) -> bytes:
    """Return a picture whose right half is transparent."""
    image = Image.new("RGBA", (40, 40), (9, 9, 9, 0))
    image.paste((*colour, 255), (0, 0, 20, 40))
    return encoded(image)


def formats(door: Door) -> str | None:
    said = None
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"):
        picture, note = door(encoded(PATCHES, kind))
        assert np.abs(middles(picture) - COLOURS).max() <= 30
        said = said or note
    return said


def without_heif(door: Door) -> str:
    data = encoded(PHOTO, "HEIF")
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(Image.OPEN, "HEIF")
        return door.refusal(data)


def turned(door: Door) -> str | None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, note = door(encoded(PATCHES.transpose(Image.Transpose.ROTATE_90), exif=exif))
    assert shows(picture, 0)
    return note


def profiles(door: Door) -> str | None:
    notes = []
    for colours, profile in ((in_p3(), p3_profile()), (in_adobe_rgb(), adobe_profile())):
        picture, note = door(encoded(patches(colours), icc_profile=profile))
        assert shows(picture, 2)
        notes.append(note)
    grey, note = door(encoded(Image.new("L", (16, 16), 55), icc_profile=linear_grey_profile()))
    assert abs(grey.getpixel((3, 3))[0] - 128) <= 1
    paper, other = door(encoded(Image.new("CMYK", (16, 16)), "TIFF", icc_profile=cmyk_profile()))
    assert paper.getpixel((3, 3)) == (255, 255, 255)
    return next(filter(None, [*notes, note, other]), None)


def srgb_profile(door: Door) -> str | None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture, note = door(encoded(PHOTO, icc_profile=profile))
    assert picture.tobytes() == PHOTO.tobytes()
    return note


def inks(door: Door) -> str | None:
    picture, note = door(encoded(PATCHES.convert("CMYK"), "JPEG", quality=95))
    assert shows(picture)
    return note


def damaged_profile(door: Door) -> str | None:
    said = set()
    for profile in (b"profile", p3_profile()[:200], linear_grey_profile(), cmyk_profile()):
        picture, note = door(encoded(PHOTO, icc_profile=profile))
        assert picture.tobytes() == PHOTO.tobytes()
        said.add(note)
    assert len(said) == 1
    return said.pop()


def named_spaces(door: Door) -> str | None:
    heic = encoded(patches(in_p3()), "HEIF", quality=95)
    box = heic.index(b"colrnclx") + 8
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
    files = [
        png_with(patches(in_2020()), (b"cICP", bytes([9, 13, 0, 1]))),
        png_with(
            patches(in_p3()), (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
        ),
        heic[:box] + struct.pack(">HH", 12, 13) + heic[box + 4 :],
        encoded(patches(in_adobe_rgb()), "JPEG", exif=exif, quality=95),
    ]
    said = [door(data) for data in files]
    assert all(shows(picture) for picture, _ in said)
    return next((note for _, note in said if note), None)


def hdr(door: Door) -> str | None:
    # PQ code values of about 203 and 1000 candelas per square metre.
    picture, note = door(png_with(patches(np.array([[148] * 3, [192] * 3])), (b"cICP", bytes([1, 16, 0, 1]))))
    assert middles(picture).min() >= 250
    return note


def sixteen_bits(door: Door) -> str | None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    picture, note = door(encoded(Image.fromarray(ramp)))
    assert np.abs(np.asarray(picture)[..., 0].astype(int) - np.arange(256).reshape(16, 16)).max() <= 1
    assert note is None
    planes = np.moveaxis(np.asarray(PATCHES).astype(np.uint16) * 257, 2, 0)
    picture, note = door(in_planes(planes, "rgb"))
    assert shows(picture, 0)
    return note


def in_planes(values: np.ndarray, photometric: str) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric=photometric, planarconfig="separate")
    return buffer.getvalue()


def unknown_colours(door: Door) -> str | None:
    deep = np.zeros((5, 16, 16), np.uint16)
    (answer,) = {door.refusal(in_planes(values, kind)) for values, kind in ((deep[:4], "separated"), (deep, "rgb"))}
    return answer


def floats(factor: float) -> Callable[[Door], str | None]:
    def given(door: Door) -> str | None:
        values = np.asarray(PATCHES) / 255
        values[0, 0] = 1.0
        picture, note = door(float_tiff(values * factor))
        assert shows(picture, 1)
        return note

    return given


def bright_floats(door: Door) -> str | None:
    values = np.asarray(PATCHES) / 255
    values[0, 0] = 40
    picture, note = door(float_tiff(values))
    assert shows(picture, 1)
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    return note


def on_ground(field: str, ground: tuple[int, int, int]) -> Callable[[Door], str | None]:
    def given(door: Door) -> str | None:
        picture, note = door(seen_through(), field)
        assert (picture.getpixel((5, 5)), picture.getpixel((30, 5))) == ((120, 120, 120), ground)
        return note

    return given


def kept_transparent(field: str) -> Callable[[Door], str | None]:
    def given(door: Door) -> str | None:
        from ipa_app.imaging.transparency import note_of_transparency

        picture, note = door(seen_through(), field)
        assert picture.mode == "RGBA"
        assert (picture.getpixel((5, 5)), picture.getpixel((30, 5))) == ((120, 120, 120, 255), (9, 9, 9, 0))
        assert note is None
        # What happens to the transparency, and the note with the result, is tested in tests/engine/test_inpaint.py.
        return note_of_transparency({"image": "The picture", "start_image": "The start picture"}[field])

    return given


def several(kind: str, used: int) -> Callable[[Door], str | None]:
    def given(door: Door) -> str | None:
        frames = [Image.new("RGB", (64, 64), colour) for colour in ((200, 30, 40), (20, 180, 60), (30, 40, 200))]
        options = {"primary_index": 1} if kind == "HEIF" else {}
        picture, note = door(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
        assert np.abs(np.asarray(picture)[3, 3].astype(int) - np.asarray(frames[used])[3, 3]).max() <= 12
        return note

    return given


def same_as_whole(whole: bytes, *cut: bytes) -> Callable[[Door], str | None]:
    def given(door: Door) -> str | None:
        said = [door(data) for data in cut]
        assert all(picture.tobytes() == door(whole)[0].tobytes() for picture, _ in said)
        return next((note for _, note in said if note), None)

    return given


def a_little_missing(door: Door) -> str | None:
    said = set()
    for whole, missing in ((JPEG, 100), (encoded(PHOTO), 300), (encoded(PHOTO, "BMP"), 300)):
        picture, note = door(whole[:-missing])
        assert 0 < (np.asarray(picture) != np.asarray(door(whole)[0])).any(axis=2).mean() < 0.01
        said.add(note)
    assert len(said) == 1
    return said.pop()


def much_missing(door: Door) -> str:
    said = {door.refusal(data[: len(data) // 2]) for data in (JPEG, encoded(PHOTO), encoded(PHOTO, "TIFF"))}
    assert len(said) == 1
    return said.pop()


CASES: dict[str, Callable[[Door], str | None]] = {
    "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC": formats,
    "any other file": lambda door: door.refusal(b"words"),
    "HEIC where pillow-heif is not installed": without_heif,
    "a camera's raw file (DNG, NEF, ARW …)": lambda door: door.refusal(encoded(PHOTO, "TIFF", tiffinfo={254: 1})),
    "a photo with an EXIF orientation": turned,
    "a colour profile: Display P3, Adobe RGB, grey, CMYK": profiles,
    "an sRGB profile": srgb_profile,
    "CMYK without a profile": inks,
    "a damaged profile, or one for other colours": damaged_profile,
    "cICP, or gAMA and cHRM, in PNG; code points in AVIF and HEIC; Adobe RGB by EXIF in JPEG": named_spaces,
    "HDR (PQ or HLG)": hdr,
    "16 bits a channel, together or in separate planes": sixteen_bits,
    "floating point, 0 to 1": floats(1),
    "floating point, with light above 1": bright_floats,
    "floating point, 0 to 255": floats(255),
    "TIFF with 16 bits of inks (CMYK) in separate planes, or of 5 channels": unknown_colours,
    "a transparent reference": on_ground("reference", CLIP_MEAN),
    "a transparent picture as a pose": on_ground("pose", (0, 0, 0)),
    "a transparent picture to change": kept_transparent("image"),
    "a transparent picture to start from": kept_transparent("start_image"),
    "a picture that is transparent all over": lambda door: door.refusal(encoded(Image.new("RGBA", (20, 20)))),
    "an animation, or a file with several pages": several("GIF", 0),
    "HEIC with several pictures": several("HEIF", 1),
    "JPEG followed by more pictures or a video, as phones write it": same_as_whole(
        JPEG, JPEG + b"\0\0\0\x18ftypmp42" + bytes(1000), encoded(PHOTO, "MPO", quality=90)
    ),
    "JPEG without its end marker, whatever follows": same_as_whole(JPEG, JPEG[:-2], JPEG[:-2] + b"SEFT" * 99),
    "PNG without its last chunk": same_as_whole(encoded(PHOTO), encoded(PHOTO)[:-12]),
    "a file with a hundredth of the picture or less missing": a_little_missing,
    "a file with more missing": much_missing,
    "more than 50 million pixels": lambda door: door.refusal(encoded(Image.new("1", (8000, 8000)))),
    "less than 8 pixels wide or high": lambda door: door.refusal(encoded(Image.new("RGB", (7, 100)))),
}


def test_every_row_is_tried() -> None:
    assert list(CASES) == list(ROWS)


@pytest.mark.parametrize("given", CASES)
def test_what_is_said_of_a_picture(given: str, door: Door) -> None:
    assert CASES[given](door) == ROWS[given].sentence
