"""Every row of "Regions" in docs/inputs.md, through the form shared by page and API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFilter

from ipa_app.engine.regions import region_notes
from ipa_app.errors import UserError
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.ui.about import word_notes
from ipa_app.ui.form import build_request
from tests.inputs.tables import rows
from tests.inputs.test_masks import PHOTO, SIZE, SPOT, drawn, photo, strokes, with_hole
from tests.picture_files import encoded

ROWS = rows("Regions")
TOYBOX = entry_from_folder(BUNDLED, name="toybox")
SOFT = SPOT.filter(ImageFilter.GaussianBlur(4))
FINISHED = (64, 64)


class Door:
    """Passes a reference and its region's mask to the form."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, mask: bytes | None, **sent: Any) -> tuple[Image.Image, str | None]:
        """Return the mask as kept, and the note about it for a new picture of its shape."""
        for name, data in (("region_mask", mask), ("reference", encoded(PHOTO))):
            (self.folder / name).write_bytes(data or b"")
            sent = {name: None if data is None else {"path": str(self.folder / name)}, **sent}
        request = build_request("mix", {"prompt": "a cat", **sent})
        (reference,) = request.references
        assert reference.region == "painted"
        assert reference.region_mask is not None
        assert reference.region_prompt == sent.get("region_prompt", "")
        notes = [*request.notes, *word_notes(request, entry=TOYBOX)]
        assert len(notes) <= 1
        return reference.region_mask, next(iter(notes), None)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def counts(*masks: bytes, wanted: Image.Image) -> Callable[[Door], str | None]:
    """Check that every mask is kept as `wanted`, and that all get the same note."""

    def given(door: Door) -> str | None:
        said = set()
        for mask in masks:
            kept, note = door(mask)
            assert np.abs(np.asarray(kept, int) - np.asarray(wanted, int)).max() <= 2
            said.add(note)
        assert len(said) == 1
        return said.pop()

    return given


def refused(*masks: bytes | None, field: str = "region_mask", **sent: Any) -> Callable[[Door], str | None]:
    def given(door: Door) -> str | None:
        said = set()
        for mask in masks:
            with pytest.raises(UserError) as error:
                door(mask, **sent)
            assert error.value.field == field
            said.add(str(error.value))
        assert len(said) == 1
        return said.pop()

    return given


def of_shape(size: tuple[int, int], finished: tuple[int, int]) -> Callable[[Door], str | None]:
    def given(door: Door) -> str | None:
        kept, note = door(encoded(SPOT.resize(size)))
        assert note is None
        request = build_request("mix", {"prompt": "a cat", "reference": {"path": str(door.folder / "reference")}})
        notes = region_notes([_with(request.references[0], kept)], finished)
        return next(iter(notes), None)

    return given


def told(words: str) -> Callable[[Door], str | None]:
    """Return a case of words for a painted place."""
    return lambda door: door(encoded(SPOT), region_prompt=words)[1]


def words_refused(words: str, *, mask: bytes | None, **sent: Any) -> Callable[[Door], str | None]:
    return refused(mask, field="region_prompt", region_prompt=words, **sent)


def _with(reference: Any, mask: Image.Image) -> Any:
    return type(reference)(image=reference.image, region_mask=mask)


def large(door: Door) -> str | None:
    kept, note = door(encoded(SPOT.resize((3000, 1500))))
    assert kept.size == (1024, 512)
    return note


def grey(low: int, high: int) -> bytes:
    return encoded(SPOT.point(lambda level: high if level else low))


CASES: dict[str, Callable[[Door], str | None]] = {
    "white on black, in any format, mode and depth": counts(
        encoded(SOFT), encoded(SOFT.convert("RGB")), encoded(SOFT.convert("RGBA"), "TIFF"), wanted=SOFT
    ),
    "0 and 1 instead of 0 and 255, or no white or no black at all": counts(
        grey(0, 1), grey(0, 90), grey(150, 255), wanted=SPOT
    ),
    "colours on black": counts(encoded(drawn((255, 0, 0), (0, 0, 0))), wanted=SPOT),
    "white strokes on a transparent background": counts(
        encoded(strokes((255, 255, 255), 127)), wanted=SPOT.point(lambda level: 127 if level else 0)
    ),
    "strokes of another colour on a transparent background": counts(encoded(strokes((255, 45, 120))), wanted=SPOT),
    "black with a transparent hole": counts(encoded(with_hole(Image.new("RGB", SIZE))), wanted=SPOT),
    "white all over": counts(encoded(Image.new("L", SIZE, 255)), wanted=Image.new("L", SIZE, 255)),
    "black all over, or transparent all over": refused(encoded(Image.new("L", SIZE)), encoded(Image.new("RGBA", SIZE))),
    "one grey all over, a colour on white, a photo": refused(
        encoded(Image.new("L", SIZE, 128)), encoded(drawn((255, 0, 0), (255, 255, 255))), encoded(photo(9))
    ),
    "the new picture's shape at another size": of_shape((40, 40), FINISHED),
    "a different shape": of_shape((40, 20), FINISHED),
    "more than 1024 pixels a side": large,
    "a half together with a mask": refused(encoded(SPOT), region="left"),
    '`"painted"` without a mask': refused(None, region="painted"),
    "a mask without a reference": refused(encoded(SPOT), reference=None),
    "words for the place": told("a red cat"),
    "words, some of which Toybox does not know": told("a purple zebra on the moon"),
    "weights above 3 in them": words_refused("a (red:30) cat", mask=encoded(SPOT)),
    "more than 2000 characters of them": words_refused("a" * 2001, mask=None, region="left"),
    "words for a place, but no place": words_refused("a red cat", mask=None),
    "words for a place without a reference": words_refused("a red cat", mask=None, region="left", reference=None),
}


def test_every_row_is_tried() -> None:
    assert list(CASES) == list(ROWS)


@pytest.mark.parametrize("given", CASES)
def test_what_is_said_of_a_region(given: str, door: Door) -> None:
    assert CASES[given](door) == ROWS[given].sentence


def test_on_the_page_a_region_waits_while_another_place_is_chosen(tmp_path: Path) -> None:
    """The page sends what was painted, and a mask's file, whichever place is chosen; programs send only what counts."""
    strokes = Image.new("RGBA", SOFT.size, "red")
    strokes.putalpha(SOFT)
    for name, picture in (("picture", PHOTO), ("strokes", strokes), ("file", SPOT)):
        picture.save(tmp_path / f"{name}.png")
    upload = {name: {"path": str(tmp_path / f"{name}.png")} for name in ("picture", "strokes", "file")}
    painted = {"background": upload["strokes"], "layers": [upload["strokes"]], "composite": None}
    sent = {"prompt": "a cat", "reference": upload["picture"], "region_painted": painted}

    def mask(**more: Any) -> Image.Image | None:
        return build_request("mix", {**sent, **more}).references[0].region_mask

    assert mask(region="left") is None
    assert mask(region="left", region_mask=upload["file"]) is None
    assert mask(region="painted") == SOFT
    both = ImageChops.lighter(SPOT, SOFT.resize(SPOT.size, Image.Resampling.NEAREST))
    assert mask(region="painted", region_mask=upload["file"]) == both

    def words(region: str) -> str:
        return build_request("mix", {**sent, "region": region, "region_prompt": "a cat"}).references[0].region_prompt

    assert [words(region) for region in ("everywhere", "left", "painted")] == ["", "a cat", "a cat"]
    with pytest.raises(UserError, match="nothing is painted") as error:
        build_request("mix", {"prompt": "a cat", "reference_3": upload["picture"], "region_3": "painted"})
    assert error.value.field == "region_mask_3"
