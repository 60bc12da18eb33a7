"""The bench counts what it says it counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from bench.asks import Measure, inpaint_inputs, rows, sweep_rows
from bench.contact_sheet import contact_sheet
from bench.judging import interval, judge, look
from bench.quality import cases
from ipa_app.toybox import world
from ipa_app.toybox.probe import Probe

SIDE = 64


def test_every_case_is_a_character_that_training_never_sees() -> None:
    tried = cases(6)
    assert all(world.is_held_out(case.view.subject) for case in tried)
    assert all(case.other.subject == case.view.subject != case.stranger.subject for case in tried)
    assert tried == cases(6)


def test_every_row_asks_for_something_that_the_engine_takes() -> None:
    case = cases(2)[0]
    asked = [*rows(side=SIDE), *sweep_rows(steps=[5]), *sweep_rows(guidance_scales=[3.0])]
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
    assert judge(look(Probe(side=32).eval(), Image.fromarray(pixels), case), measure) == untouched


def test_the_interval_is_the_normal_one() -> None:
    figures = interval([0.0, 1.0, 1.0, 1.0])
    assert figures == {"right": 0.75, "plus_minus": round(1.96 * math.sqrt(0.25 / 4), 3)}


def test_the_sheet_has_a_row_per_name() -> None:
    pictures = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    sheet = contact_sheet([("one", pictures), ("two", pictures)])
    assert sheet.height == 2 * 32 + 4
    assert sheet.getpixel((sheet.width - 10, 10)) == (0, 0, 255)
