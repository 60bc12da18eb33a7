from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks.inpaint import make_canvas
from ipa_app.errors import UserError
from ipa_app.models.manager import ModelManager
from tests.effort import check_cpu_s
from tests.engine.conftest import Generate, noise_picture, reference
from tests.mask_drawings import mask_with


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
    picture, mask = noise_picture(1, size), mask_with(box, size=size)
    result = generate(task="inpaint", image=picture, mask=mask, references=(reference(),), seed=1)
    before, after, inside = np.asarray(picture), np.asarray(result.images[0]), np.asarray(mask) > 127
    assert after.shape == before.shape
    assert (before[~inside] == after[~inside]).all()
    assert (before[inside] != after[inside]).any()
    assert (result.settings["width"], result.settings["height"]) == size


def test_a_mask_of_another_size_is_stretched_over_the_picture(generate: Generate) -> None:
    picture = noise_picture(1, (80, 60))
    order = {"task": "inpaint", "image": picture, "prompt": "a cat", "seed": 1}
    small = generate(mask=mask_with((2, 2, 4, 4), size=(8, 6)), **order)
    exact = generate(mask=mask_with((20, 20, 40, 40), size=(80, 60)), **order)
    assert small.images[0].tobytes() == exact.images[0].tobytes()


def test_a_mask_is_brought_to_the_pictures_size_once() -> None:
    picture, grey = noise_picture(1, (80, 60)), Image.linear_gradient("L").resize((8, 6)).convert("RGB")
    request = GenerateRequest(task="inpaint", image=picture, mask=grey)
    assert request.mask is not None
    assert (request.mask.mode, request.mask.size, request.mask.getcolors()) == ("L", (80, 60), [(2400, 0), (2400, 255)])
    assert dataclasses.replace(request, seed=5).mask is request.mask


def test_another_size_may_be_asked_for(generate: Generate) -> None:
    order = {"image": noise_picture(1, (80, 60)), "mask": mask_with((2, 2, 40, 40), size=(80, 60))}
    assert generate(task="inpaint", width=160, height=120, **order).images[0].size == (160, 120)


@pytest.mark.parametrize(
    ("size", "is_told"), [((120, 120), True), ((160, 120), False), ((80, 64), True), ((0, 0), False)]
)
def test_a_picture_that_is_squeezed_says_so(generate: Generate, size: tuple[int, int], is_told: bool) -> None:
    order = {"image": noise_picture(1, (80, 60)), "mask": mask_with((2, 2, 40, 40), size=(80, 60)), "prompt": "a cat"}
    result = generate(task="inpaint", width=size[0], height=size[1], **order)
    assert [note.key for note in result.notes].count("inpaint.stretched") == is_told


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
    # In the view the stroke is a sixth of a pixel thick, yet covers a row of cells.
    assert 0.08 < (np.asarray(canvas.view_mask) > 127).mean() < 0.2


def test_a_huge_picture_with_a_huge_mask_is_quick_to_prepare_and_finish(manager: ModelManager) -> None:
    size = (3000, 2500)
    request = GenerateRequest(
        task="inpaint", image=Image.new("RGB", size, "teal"), mask=mask_with((100, 100, 2900, 2400), size=size)
    )

    def prepared_and_finished() -> None:
        canvas = make_canvas(make_plan(request, manager.entry("toybox")), cell=8)
        result = canvas.finish(Image.new("RGB", (64, 64), "red"))
        assert result.getpixel((99, 99)) == (0, 128, 128)
        assert result.getpixel((1500, 1200)) == (255, 0, 0)

    check_cpu_s(prepared_and_finished, most=10)


def test_putting_back_what_was_seen_changes_nothing(manager: ModelManager) -> None:
    picture = noise_picture(1, (64, 64))
    request = GenerateRequest(task="inpaint", image=picture, mask=mask_with((0, 0, 64, 64), size=(64, 64)))
    canvas = make_canvas(make_plan(request, manager.entry("toybox")), cell=8)
    assert canvas.finish(canvas.view).tobytes() == picture.tobytes()


def sticker(size: tuple[int, int] = (80, 60)) -> Image.Image:
    """Return a picture that is opaque in the middle, with a soft rim, and coloured where it is transparent, too."""
    image = noise_picture(1, size)
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    away = np.hypot(columns - size[0] / 2, rows - size[1] / 2)
    image.putalpha(Image.fromarray(np.clip(255 * (24 - away) / 4, 0, 255).astype(np.uint8)))
    return image


TRANSPARENT = "The picture is transparent in places, which look white to the model and stay transparent."


@pytest.mark.parametrize("fields", [{}, {"mask_feather": 6.0, "area": "whole"}, {"mask_invert": True}], ids=str)
def test_a_transparent_picture_stays_transparent(generate: Generate, fields: dict[str, Any]) -> None:
    picture, mask = sticker(), mask_with((30, 20, 70, 40), size=(80, 60))
    result = generate(task="inpaint", image=picture, mask=mask, prompt="a cat", seed=1, **fields)
    before, after = np.asarray(picture), np.asarray(result.images[0])
    kept = (np.asarray(mask) == 0) != bool(fields.get("mask_invert"))
    assert result.images[0].mode == "RGBA"
    assert np.array_equal(after[..., 3], before[..., 3])
    assert np.array_equal(after[kept], before[kept]), "colours under transparent parts, too"
    seen = ~kept & (before[..., 3] > 128)
    assert (after[seen] != before[seen]).any(axis=1).mean() > 0.9
    assert result.notes == (TRANSPARENT,)


def test_what_is_drawn_where_there_was_nothing_to_be_seen_is_opaque(generate: Generate) -> None:
    picture, mask = sticker(), mask_with((0, 0, 12, 60), size=(80, 60))
    result = generate(task="inpaint", image=picture, mask=mask, prompt="a cat", seed=1, mask_feather=0.0)
    before, after = np.asarray(picture), np.asarray(result.images[0])
    assert (after[:, :12, 3] == 255).all()
    assert np.array_equal(after[:, 12:], before[:, 12:])
    assert result.notes == ("The picture is transparent where it is redrawn, so what is drawn there is opaque.",)
    soft = generate(task="inpaint", image=picture, mask=mask, prompt="a cat", seed=1, mask_feather=4.0)
    opacity = np.asarray(soft.images[0])[30, :12, 3].astype(int)
    assert opacity[0] == 255
    assert (np.diff(opacity) <= 0).all()
    assert opacity[-1] < 128


def test_a_transparent_picture_is_continued_opaquely(generate: Generate) -> None:
    result = generate(task="inpaint", image=sticker(), prompt="a cat", seed=1, extend_right=50, mask_feather=0.0)
    after = np.asarray(result.images[0])
    assert after.shape == (60, 120, 4)
    assert np.array_equal(after[:, :80], np.asarray(sticker()))
    assert (after[:, 80:, 3] == 255).all()
    assert result.notes == (TRANSPARENT,)


def test_a_start_picture_gives_its_transparency_to_the_result(generate: Generate) -> None:
    order = {"task": "mix", "prompt": "a cat", "seed": 1, "strength": 0.5}
    picture = sticker((64, 64))
    (image,) = generate(start_image=picture, **order).images
    assert image.mode == "RGBA"
    assert image.getchannel("A").tobytes() == picture.getchannel("A").tobytes()
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture, mask=picture.getchannel("A"))
    (opaque,) = generate(start_image=flat, **order).images
    assert opaque.mode == "RGB"
    whole = np.asarray(image)[..., 3] == 255
    assert np.array_equal(np.asarray(image)[whole][:, :3], np.asarray(opaque)[whole])
    assert generate(start_image=picture, **order).notes == (TRANSPARENT.replace("picture", "start picture"),)


def test_an_opaque_picture_gives_an_opaque_result_in_whatever_mode_it_comes(generate: Generate) -> None:
    picture, mask = noise_picture(1, (80, 60)), mask_with((20, 20, 40, 40), size=(80, 60))
    results = [
        generate(task="inpaint", image=image, mask=mask, prompt="a cat", seed=1)
        for image in (picture, picture.convert("RGBA"))
    ]
    assert [result.images[0].mode for result in results] == ["RGB", "RGB"]
    assert results[0].images[0].tobytes() == results[1].images[0].tobytes()
    assert results[1].notes == ()
