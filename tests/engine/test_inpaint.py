from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from ipa_app.engine.inpaint import make_canvas
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import Generate, noise_picture, reference


def mask_of(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((64, 64), (16, 16, 48, 48)),
        ((99, 141), (0, 0, 30, 17)),
        ((301, 33), (200, 5, 290, 31)),
        ((17, 250), (3, 240, 17, 250)),
        ((333, 222), (100, 100, 101, 101)),
        ((40, 40), (0, 0, 40, 40)),
    ],
)
def test_only_what_is_masked_changes_at_any_size(
    generate: Generate, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    picture, mask = noise_picture(1, size), mask_of(size, box)
    result = generate(task="inpaint", image=picture, mask=mask, references=(reference(),), seed=1)
    before, after, inside = np.asarray(picture), np.asarray(result.images[0]), np.asarray(mask) > 127
    assert after.shape == before.shape
    assert (before[~inside] == after[~inside]).all()
    assert (before[inside] != after[inside]).any()
    assert (result.settings["width"], result.settings["height"]) == size


def test_a_mask_of_another_size_is_stretched_over_the_picture(generate: Generate) -> None:
    picture = noise_picture(1, (80, 60))
    order = {"task": "inpaint", "image": picture, "prompt": "a cat", "seed": 1}
    small = generate(mask=mask_of((8, 6), (2, 2, 4, 4)), **order)
    exact = generate(mask=mask_of((80, 60), (20, 20, 40, 40)), **order)
    assert small.images[0].tobytes() == exact.images[0].tobytes()


def test_another_size_may_be_asked_for(generate: Generate) -> None:
    order = {"image": noise_picture(1, (80, 60)), "mask": mask_of((80, 60), (2, 2, 40, 40))}
    assert generate(task="inpaint", width=160, height=120, **order).images[0].size == (160, 120)


def test_an_empty_mask_is_an_error_and_not_a_full_repaint(generate: Generate) -> None:
    with pytest.raises(UserError, match="mask is empty"):
        generate(task="inpaint", image=noise_picture(), mask=Image.new("L", (48, 40)), prompt="a cat")


def test_the_view_holds_the_mask_and_thin_strokes_reach_the_model(manager: ModelManager) -> None:
    mask = Image.new("L", (400, 90))
    mask.paste(255, (10, 44, 390, 45))
    request = GenerateRequest(task="inpaint", image=noise_picture(1, (400, 90)), mask=mask)
    canvas = make_canvas(make_plan(request, manager.entry("toybox")), cell=8)
    assert canvas.view.size == canvas.view_mask.size == (64, 64)
    left, top, right, bottom = canvas.area.window
    assert right - left == bottom - top
    assert left <= 10
    assert right >= 390
    # The stroke is a sixth of a pixel thick in the view, and still covers a row of cells.
    assert 0.08 < (np.asarray(canvas.view_mask) > 127).mean() < 0.2


def test_a_huge_picture_with_a_huge_mask_is_quick_to_prepare_and_finish(manager: ModelManager) -> None:
    size = (3000, 2500)
    request = GenerateRequest(
        task="inpaint", image=Image.new("RGB", size, "teal"), mask=mask_of(size, (100, 100, 2900, 2400))
    )
    begun = time.process_time()
    canvas = make_canvas(make_plan(request, manager.entry("toybox")), cell=8)
    result = canvas.finish(Image.new("RGB", (64, 64), "red"))
    assert time.process_time() - begun < 10
    assert result.getpixel((99, 99)) == (0, 128, 128)
    assert result.getpixel((1500, 1200)) == (255, 0, 0)


def test_putting_back_what_was_seen_changes_nothing(manager: ModelManager) -> None:
    picture = noise_picture(1, (64, 64))
    request = GenerateRequest(task="inpaint", image=picture, mask=mask_of((64, 64), (0, 0, 64, 64)))
    canvas = make_canvas(make_plan(request, manager.entry("toybox")), cell=8)
    assert canvas.finish(canvas.view).tobytes() == picture.tobytes()
