"""Without a reference, the surroundings of the mask act as one, as if the user had uploaded them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.metadata import pack_inputs, read_request
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult
from ipa_app.engine.tasks.area import mark_area
from ipa_app.imaging.masks import fill_masked
from ipa_app.imaging.result_files import write_result
from ipa_app.messages import Message
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.models.styles import Style
from tests.engine.conftest import TIMEOUT_S, Generate, noise_picture, pixels, reference

NOTE = Message("inpaint.from_surroundings")
BOX = (12, 10, 40, 30)
NEARLY_ALL = Image.new("L", (64, 64), 255)
NEARLY_ALL.paste(0, (0, 0, 2, 64))
REQUEST_FIELDS = [field.name for field in dataclasses.fields(GenerateRequest) if field.name != "notes"]


def holed(colour: str = "white", size: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    """Return a picture with a hole of one colour, and its mask, unfeathered so that the hole does not show through."""
    picture, mask = noise_picture(1, size), Image.new("L", size)
    picture.paste(colour, BOX)
    mask.paste(255, BOX)
    return {"task": "inpaint", "image": picture, "mask": mask, "mask_feather": 0.0, "seed": 1}


def goes_by_surroundings(result: GenerateResult) -> bool:
    return NOTE in result.notes


def test_it_is_drawn_as_with_the_filled_picture_as_reference(generate: Generate) -> None:
    order = holed()
    filled = fill_masked(order["image"], order["mask"])
    by_itself = generate(**order)
    given = generate(
        **{**order, "image": filled, "references": (Reference(image=filled, weight=1.3, view="pad"),)},
        guidance_scale=1.5,
    )
    assert goes_by_surroundings(by_itself)
    assert not goes_by_surroundings(given)
    assert pixels(by_itself) == pixels(given)


def test_nothing_that_is_below_the_mask_counts(generate: Generate) -> None:
    assert pixels(generate(**holed("red"))) == pixels(generate(**holed("blue")))


@pytest.mark.parametrize(
    "fields",
    [
        {"references": (reference(),)},
        {"references": (reference(weight=0),)},
        {"prompt": "a cat"},
        {"scale": 0.0},
        {"surroundings": False},
        {"mask": Image.new("L", (64, 64), 255)},
        {"mask": NEARLY_ALL, "mask_grow": 20.0},
    ],
    ids=lambda fields: ", ".join(fields),
)
def test_whatever_is_given_counts_as_before(generate: Generate, fields: dict[str, Any]) -> None:
    with_it = {**holed(), **fields}
    result = generate(**with_it)
    assert not goes_by_surroundings(result)
    assert pixels(result) == pixels(generate(**{**with_it, "surroundings": False}))


def test_there_is_nothing_to_swap_where_nothing_is_painted(generate: Generate) -> None:
    order = {**holed(), "mask": Image.new("L", (64, 64)), "extend_right": 25.0}
    result = generate(**order, mask_invert=True)
    assert goes_by_surroundings(result)
    assert pixels(result) == pixels(generate(**order))


def test_a_style_says_what_to_draw(manager: ModelManager) -> None:
    entry = dataclasses.replace(
        manager.entry("toybox"), styles={"night": Style(name="night", prompt="{prompt}, night")}
    )
    assert make_plan(GenerateRequest(**holed()), entry).uses_references
    plan = make_plan(GenerateRequest(**holed(), style="night"), entry)
    assert not plan.uses_references
    assert plan.guidance_scale == entry.guidance_scale


def test_a_model_may_have_words_of_its_own_for_what_is_around(manager: ModelManager) -> None:
    entry = dataclasses.replace(manager.entry("toybox"), surroundings_prompt="a plain wall")

    def prompt(**fields: Any) -> str:
        return make_plan(GenerateRequest(**{**holed(), **fields}), entry).prompts[0]

    assert prompt() == prompt(prompt="  ") == prompt(extend_left=25.0, mask=None) == "a plain wall"
    assert prompt(surroundings=False) == prompt(references=(reference(),)) == prompt(scale=0.0) == ""
    assert prompt(prompt="a cat") == "a cat"


def test_these_words_are_the_prompt(generate: Generate, tiny_bundle_dir: Path) -> None:
    entry = dataclasses.replace(entry_from_folder(tiny_bundle_dir, name="toybox"), surroundings_prompt="a red cat")
    engine, order = Engine(ModelManager({"toybox": entry}, device="cpu")), holed()
    try:
        by_itself = engine.submit(GenerateRequest(**order, steps=2)).result(TIMEOUT_S)
    finally:
        engine.close()
    filled = fill_masked(order["image"], order["mask"])
    as_reference = {"image": filled, "references": (Reference(image=filled, weight=1.3, view="pad"),)}
    given = generate(**{**order, **as_reference}, prompt="a red cat", guidance_scale=1.5, steps=2)
    assert pixels(by_itself) == pixels(given)
    assert by_itself.settings["prompt"] == ""


def test_a_model_without_adapters_draws_as_before(manager: ModelManager) -> None:
    entry = dataclasses.replace(manager.entry("toybox"), adapters={})
    plan = make_plan(GenerateRequest(**holed()), entry)
    assert not plan.uses_references
    assert (plan.adapter, plan.guidance_scale) == (None, entry.guidance_scale)


@pytest.mark.parametrize(("asked", "used"), [(0, 1.5), (1, 1), (5, 5)])
def test_guidance_that_is_asked_for_counts(manager: ModelManager, asked: float, used: float) -> None:
    request = GenerateRequest(**holed(), guidance_scale=asked)
    assert make_plan(request, manager.entry("toybox")).guidance_scale == used


def test_a_model_without_guidance_keeps_to_that(manager: ModelManager) -> None:
    entry = dataclasses.replace(manager.entry("toybox"), guidance_scale=1.0)
    assert make_plan(GenerateRequest(**holed()), entry).guidance_scale == 1


def test_strength_range_and_adapter_count_for_it(generate: Generate) -> None:
    changes: list[dict[str, Any]] = [{}, {"scale": 0.5}, {"end": 0.5}, {"adapter": "fine"}]
    assert len({pixels(generate(**holed(), steps=4, **change))[0] for change in changes}) == len(changes)


@pytest.mark.parametrize(
    "fields",
    [
        {"extend_left": 25.0, "mask": None},
        {"mask_padding": 0.0},
        {"area": "whole", "image": noise_picture(2, (90, 40))},
    ],
    ids=["continued", "no padding", "the whole of a wide picture"],
)
def test_every_shape_can_be_filled(generate: Generate, fields: dict[str, Any]) -> None:
    order = {**holed(), **fields}
    result = generate(**order)
    assert goes_by_surroundings(result)
    if order["mask"] is not None:
        kept = np.asarray(order["mask"].resize(order["image"].size, Image.Resampling.NEAREST)) == 0
        assert (np.asarray(result.images[0])[kept] == np.asarray(order["image"])[kept]).all()


@pytest.mark.parametrize("surroundings", [True, False])
def test_the_file_says_so_and_gives_the_same_picture_again(
    generate: Generate, tmp_path: Path, surroundings: bool
) -> None:
    result = generate(**holed(), surroundings=surroundings)
    assert (result.settings["surroundings"], result.settings["references"]) == (surroundings, [])
    write_result(result.images[0], tmp_path / "a.png", result.settings, inputs=pack_inputs(result.inputs))
    request = read_request(tmp_path / "a.png")
    again = generate(**{name: getattr(request, name) for name in REQUEST_FIELDS})
    assert goes_by_surroundings(again) is surroundings
    assert pixels(again) == pixels(result)


def test_it_is_not_noted_where_it_could_have_served_and_did_not(generate: Generate) -> None:
    assert "surroundings" not in generate(**holed(), prompt="a cat").settings


def test_enough_is_seen_of_them_to_know_what_the_hole_is_in(manager: ModelManager) -> None:
    def window(**fields: Any) -> tuple[int, int, int, int]:
        return mark_area(
            make_plan(GenerateRequest(**{**holed(size=(640, 640)), **fields}), manager.entry("toybox"))
        ).window

    left, top, right, bottom = window()
    width, height = BOX[2] - BOX[0], BOX[3] - BOX[1]
    assert min(right - left, bottom - top) >= 2 * max(width, height)
    assert window(mask_padding=200.0) == (left, top, right, bottom)
    close_left, _, close_right, _ = window(surroundings=False)
    assert close_right - close_left < right - left
