"""Every row of "Masks" in docs/inputs.md, from the form shared by page and API to the area that is redrawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ipa_app.engine.plan import make_plan
from ipa_app.engine.tasks.area import mark_area
from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry
from ipa_app.ui.form import build_request
from tests.inputs.tables import rows
from tests.picture_files import encoded

ROWS = rows("Masks")
SIZE = (160, 120)
ENTRY = ModelEntry(name="toybox", title="M", location=Path("m"), adapters={}, controlnets={}, width=64, height=64)


def photo(seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)


def spot() -> Image.Image:
    """Return a mask of 8 percent of the picture."""
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).ellipse((95, 10, 138, 54), fill=255)
    return mask


PHOTO, SPOT = photo(), spot()
MARKED = np.asarray(SPOT) > 0
ALL = np.ones_like(MARKED)


def drawn(inside: object, outside: object, mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, SIZE, outside)  # type: ignore[arg-type]
    image.paste(inside, mask=SPOT)  # type: ignore[call-overload]
    return image


def strokes(colour: tuple[int, int, int], opacity: int = 255) -> Image.Image:
    image = Image.new("RGB", SIZE, colour)
    image.putalpha(SPOT.point(lambda level: opacity if level else 0))
    return image


def with_hole(picture: Image.Image) -> Image.Image:
    image = picture.copy()
    image.putalpha(SPOT.point(lambda level: 255 - level))
    return image


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


class Door:
    """Passes a picture and a mask to the form."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, mask: bytes | None, picture: bytes | None = None, **values: float
    ) -> tuple[np.ndarray, str | None]:
        """Return which pixels of the picture are redrawn, and the note about it."""
        uploads = {}
        for name, data in (("mask", mask), ("image", picture or encoded(PHOTO))):
            if data is None:
                continue
            (self.folder / name).write_bytes(data)
            uploads[name] = {"path": str(self.folder / name)}
        request = build_request("inpaint", {**uploads, **values})
        area = mark_area(make_plan(request, ENTRY))
        notes = (*request.notes, *area.notes)
        assert len(notes) <= 1
        return np.asarray(area.mask) > 0, next(iter(notes), None)

    def refusal(self, mask: bytes) -> str:
        with pytest.raises(UserError) as refused:
            self(mask)
        return str(refused.value)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def marks(*masks: bytes, wanted: np.ndarray = MARKED) -> Callable[[Door], str | None]:
    """Check that every mask marks `wanted`, up to soft edges, and that all get the same note."""

    def given(door: Door) -> str | None:
        said = set()
        for mask in masks:
            redrawn, note = door(mask)
            assert (redrawn & wanted).sum() > 0.95 * (redrawn | wanted).sum()
            said.add(note)
        assert len(said) == 1
        return said.pop()

    return given


def asked(*masks: bytes) -> Callable[[Door], str | None]:
    """Check that every mask is refused with the same message."""

    def given(door: Door) -> str | None:
        said = {door.refusal(mask) for mask in masks}
        assert len(said) == 1
        return said.pop()

    return given


def empty(door: Door) -> str | None:
    masks = [encoded(Image.new("L", SIZE)), encoded(Image.new("RGBA", SIZE))]
    redrawn, note = door(masks[0], extend_right=50)
    assert note is None
    assert redrawn[:, 160:].all()
    assert not redrawn[:, :160].any()
    return asked(*masks)(door)


def turned_photo(mask: Image.Image, orientation: int) -> Callable[[Door], str | None]:
    """Check a photo whose file is stored rotated, with an upright mask."""

    def given(door: Door) -> str | None:
        back = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[orientation]
        redrawn, note = door(encoded(mask), encoded(PHOTO.transpose(back), exif=exif(orientation)))
        assert np.array_equal(redrawn, MARKED)
        return note

    return given


def on_nothing(door: Door) -> str | None:
    picture = PHOTO.copy()
    picture.putalpha(Image.new("L", SIZE))
    picture.paste(PHOTO, (0, 0))
    alpha = Image.new("L", SIZE)
    alpha.paste(255, (0, 60, 160, 120))
    picture.putalpha(alpha)
    redrawn, note = door(encoded(SPOT), encoded(picture))
    assert np.array_equal(redrawn, MARKED)
    return note


def extended(door: Door) -> str | None:
    redrawn, note = door(None, encoded(with_hole(PHOTO)), extend_right=50)
    assert redrawn[:, 160:].all()
    assert not redrawn[:, :160].any()
    return note


def small_marks(door: Door) -> str | None:
    picture = PHOTO.resize((960, 720), Image.Resampling.NEAREST)
    hole, mark = picture.convert("RGBA"), picture.copy()
    hole.paste((0, 0, 0, 0), (700, 100, 708, 108))
    mark.paste((255, 0, 0), (700, 100, 708, 108))
    (cut, note), (painted, other) = (door(encoded(mask), encoded(picture)) for mask in (hole, mark))
    assert cut.sum() == cut[100:108, 700:708].sum() == 64
    assert painted.sum() == painted[100:108, 700:708].sum() > 48
    assert other == ROWS["the picture with something painted over it"].sentence
    return note


def paint_on_lines(door: Door, colour: tuple[int, int, int]) -> str | None:
    lines = Image.new("RGB", SIZE, (255, 255, 255))
    for at in range(0, 160, 16):
        ImageDraw.Draw(lines).line((at, 0, at, 120), fill=(0, 0, 0), width=2)
    over = lines.copy()
    over.paste(colour, mask=SPOT)
    try:
        redrawn, note = door(encoded(over), encoded(lines))
    except UserError as error:
        return str(error)
    assert (redrawn & MARKED).sum() > 0.8 * (redrawn | MARKED).sum()
    return note


CASES: dict[str, Callable[[Door], str | None]] = {
    "white on black, in any format, mode and depth": marks(
        encoded(SPOT),
        encoded(SPOT, "JPEG"),
        encoded(SPOT.convert("1")),
        encoded(SPOT.convert("P"), "GIF"),
        encoded(Image.fromarray(MARKED.astype(np.uint16) * 65535)),
        encoded(Image.fromarray(MARKED.astype(np.float32)), "TIFF"),
    ),
    "black on white": marks(encoded(drawn(0, 255, "L")), wanted=~MARKED),
    "white all over": marks(encoded(Image.new("L", SIZE, 255)), wanted=ALL),
    "black all over, or transparent all over": empty,
    "0 and 1 instead of 0 and 255, or any other two greys": marks(
        *(encoded(drawn(*levels, "L")) for levels in ((1, 0), (127, 0), (255, 128), (110, 100))),
        encoded(Image.fromarray(MARKED.astype(np.uint16))),
    ),
    "one grey or one colour all over": asked(
        encoded(Image.new("L", SIZE, 128)), encoded(Image.new("RGB", SIZE, (200, 40, 40)))
    ),
    "numbers for several objects (0, 1, 2)": asked(
        encoded(Image.fromarray(np.where(MARKED, 2, np.arange(160) > 80).astype(np.uint8)))
    ),
    "colours on black": marks(encoded(drawn((255, 0, 0), 0)), encoded(drawn((128, 0, 0), 0).quantize(2))),
    "a colour on white": asked(encoded(drawn((255, 0, 0), (255, 255, 255)))),
    "white strokes on a transparent background, of any opacity": marks(
        encoded(strokes((255, 255, 255))), encoded(strokes((255, 255, 255), 127)), encoded(strokes((255, 255, 255), 60))
    ),
    "strokes of another colour on a transparent background": marks(
        encoded(strokes((0, 0, 0))), encoded(strokes((255, 45, 120)))
    ),
    "a copy of the picture with a transparent hole": marks(
        encoded(with_hole(PHOTO)), encoded(with_hole(PHOTO), "WEBP", quality=80)
    ),
    "black with a transparent hole": marks(encoded(with_hole(Image.new("RGB", SIZE)))),
    "white, or a colour, with a transparent hole": asked(
        encoded(with_hole(Image.new("RGB", SIZE, (255, 255, 255)))),
        encoded(with_hole(Image.new("RGB", SIZE, (255, 45, 120)))),
    ),
    "the picture with something painted over it": marks(
        encoded(Image.composite(Image.new("RGB", SIZE, (255, 255, 255)), PHOTO, SPOT))
    ),
    "a hole or a mark of a few pixels in a copy of a large picture": small_marks,
    "a drawing in black and white, painted over in its ink": lambda door: paint_on_lines(door, (0, 0, 0)),
    "a drawing, some lines of which are erased": lambda door: paint_on_lines(door, (255, 255, 255)),
    "the picture itself": asked(encoded(PHOTO), encoded(PHOTO, "JPEG", quality=80)),
    "another photo": asked(encoded(photo(9)), encoded(photo(9).convert("L"))),
    "the picture's shape at another size, apart from rounding": marks(
        encoded(SPOT.resize((320, 240))), encoded(SPOT.resize((161, 120))), encoded(SPOT.resize((159, 119)))
    ),
    "a different shape": asked(encoded(Image.new("L", (160, 160), 255))),
    "made for the stored pixels of a photo that EXIF rotates": turned_photo(
        SPOT.transpose(Image.Transpose.ROTATE_90), 6
    ),
    "for a photo that EXIF rotates, where both ways fit": turned_photo(SPOT, 3),
    "with an EXIF orientation of its own": marks(
        encoded(SPOT.transpose(Image.Transpose.ROTATE_90), exif=exif(6)),
        encoded(SPOT.transpose(Image.Transpose.ROTATE_180), exif=exif(3)),
    ),
    "none, where a picture that is transparent in places is extended": extended,
    "on a part of the picture that is transparent": on_nothing,
}


def test_every_row_is_tried() -> None:
    assert list(CASES) == list(ROWS)


@pytest.mark.parametrize("given", CASES)
def test_what_is_said_of_a_mask(given: str, door: Door) -> None:
    assert CASES[given](door) == ROWS[given].sentence
