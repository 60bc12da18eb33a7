"""The bench's measures count what they claim to count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from bench.asks import MARGIN, Measure, inpaint_inputs, rows, short_rows, sweep_rows
from bench.judging import (
    JUDGE,
    LEAST_READ,
    check_judge,
    contact_sheet,
    drawings_read,
    interval,
    join_errors,
    look,
    score,
)
from bench.quality import cases, figures_of
from ipa_app.errors import UserError
from toybox import world
from toybox.judge import Judge, load_judge

SIDE = 64


def test_every_case_is_a_character_that_training_never_sees() -> None:
    tried = cases(6)
    assert all(world.is_held_out(case.view.subject) for case in tried)
    assert all(case.other.subject == case.view.subject != case.stranger.subject for case in tried)
    assert tried == cases(6)


def test_every_row_asks_for_something_that_the_engine_takes() -> None:
    case, plain = cases(2)[0], short_rows(side=SIDE)
    asked = [*rows(side=SIDE), *sweep_rows(plain, steps=[5]), *sweep_rows(plain, guidance_scales=[3.0])]
    requests = {row.name: row.ask(case) for row in asked}
    assert {request.task for request in requests.values()} == {"variation", "mix", "inpaint", "pose"}
    assert {request.adapter for request in requests.values()} == {"base", "fine"}
    assert requests["text only, 5 steps"].steps == 5
    assert requests["variation, fine, scale 1, guidance 3"].guidance_scale == 3


@pytest.mark.parametrize(("where", "untouched"), [("inside", 1.0), ("outside", 0.0)])
def test_one_changed_pixel_outside_the_mask_is_seen(where: str, untouched: float) -> None:
    case = cases(2)[0]
    image, mask = inpaint_inputs(case, SIDE)
    inside = np.array(mask) > 0
    row, column = np.argwhere(inside if where == "inside" else ~inside)[0]
    pixels = np.array(image)
    pixels[row, column, 0] ^= 1
    measure = Measure(name="outside untouched", kind="outside", of="stranger")
    assert score(look(Judge(side=SIDE).eval(), Image.fromarray(pixels), case), measure) == untouched


def test_the_rim_is_what_the_mask_reaches_beyond_the_figure() -> None:
    case = cases(2)[0]
    image, mask = inpaint_inputs(case, SIDE)
    assert not any(join_errors(image, image, mask).values())
    deep = mask.filter(ImageFilter.MinFilter(2 * MARGIN + 3))
    dark = join_errors(Image.composite(Image.new("RGB", image.size, "black"), image, deep), image, mask)
    assert dark["rim colours"] == 0 < dark["hole colours"]
    brighter = image.point(lambda level: min(255, level + 10))
    seam = join_errors(Image.composite(brighter, image, mask), image, mask)
    # Where the picture is nearly white, it can get less brighter.
    assert 7 < seam["rim colours"] <= 10
    assert 0 < seam["rim edges"] < seam["rim colours"]


def test_rims_are_counted_in_levels_and_shares_as_shares() -> None:
    case = cases(2)[0]
    image, _ = inpaint_inputs(case, SIDE)
    seen = [look(Judge(side=SIDE).eval(), image, case)]
    inpainted = next(row for row in short_rows(side=SIDE) if row.name.startswith("inpaint"))
    units = {measure.name: figures_of("any", seen, measure)["unit"] for measure in inpainted.measures}
    assert units == {
        "subject": "share", "outside untouched": "share", "rim colours": "levels", "rim edges": "levels"
    }  # fmt: skip


def test_the_interval_is_the_normal_one() -> None:
    figures = interval([0.0, 1.0, 1.0, 1.0])
    assert figures == {"mean": 0.75, "plus_minus": round(1.96 * math.sqrt(0.25 / 4), 3)}


def test_the_sheet_has_a_row_per_name() -> None:
    pictures = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    sheet = contact_sheet([("one", pictures), ("two", pictures)])
    assert sheet.height == 2 * 32 + 4
    assert sheet.getpixel((sheet.width - 10, 10)) == (0, 0, 255)


def test_a_judge_that_cannot_read_drawings_counts_nothing() -> None:
    torch.manual_seed(0)
    with pytest.raises(UserError, match="The judge reads .* of species, .* correctly in drawings but must read 98%"):
        check_judge(Judge(side=SIDE).eval(), [])


def test_the_judge_that_comes_with_the_project_reads_drawings() -> None:
    shares = drawings_read(load_judge(JUDGE), [case.view for case in cases(48)])
    assert set(shares) == {*world.ATTRIBUTES, "joints"}
    assert {name: share for name, share in shares.items() if share < LEAST_READ} == {}
