"""Drawn pictures: equal to plain diffusers where they should be, and the same bytes every time."""

from __future__ import annotations

import itertools
import shutil
import threading
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.pose.draw import draw_sheet, draw_skeleton
from ipa_app.pose.presets import preset_sheets, presets
from tests.engine.conftest import TIMEOUT_S, Generate, noise_picture, pixels, reference

SKELETON = draw_skeleton(next(iter(presets().values())), (64, 64))


def test_without_a_reference_it_is_plain_stable_diffusion(generate: Generate, tiny_bundle_dir: Path) -> None:
    plain = StableDiffusionPipeline.from_pretrained(tiny_bundle_dir, local_files_only=True, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(5))
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}
    expected = plain("a red cat", negative_prompt="a dog", latents=latents, **settings).images[0]
    drawn = generate(task="mix", prompt="a red cat", negative_prompt="a dog", seed=5)
    assert pixels(drawn) == [expected.tobytes()]


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_a_start_picture_is_plain_image_to_image(generate: Generate, tiny_bundle_dir: Path, strength: float) -> None:
    plain = StableDiffusionImg2ImgPipeline.from_pretrained(tiny_bundle_dir, local_files_only=True, dtype=torch.float32)
    plain.set_progress_bar_config(disable=True)
    start = noise_picture(6, (64, 64))
    settings = {"image": start, "strength": strength, "num_inference_steps": 5, "guidance_scale": 3.0}
    generator = torch.Generator().manual_seed(5)
    expected = plain("a red cat", negative_prompt="a dog", generator=generator, **settings).images[0]
    wish = {"task": "mix", "prompt": "a red cat", "negative_prompt": "a dog", "steps": 5, "seed": 5}
    drawn = generate(**wish, start_image=start, strength=strength)
    assert pixels(drawn) == [expected.tobytes()]
    assert pixels(drawn) != pixels(generate(**wish))


def test_start_picture_reference_and_range_work_together(generate: Generate) -> None:
    wish = {"task": "mix", "prompt": "a cat", "references": (reference(),), "seed": 1, "steps": 6, "strength": 0.7}
    start = noise_picture(6, (90, 40))
    whole, late = (generate(**wish, start_image=start, start=begin) for begin in (0, 0.5))
    assert whole.images[0].size == (64, 64)
    assert pixels(whole) != pixels(late)
    assert pixels(whole) != pixels(generate(**wish, start_image=start, scale=0))


def test_it_is_said_how_much_of_a_start_picture_of_another_shape_is_used(generate: Generate) -> None:
    wish = {"task": "mix", "prompt": "a cat", "seed": 1, "strength": 0.7}
    wide, tall = noise_picture(6, (90, 40)), noise_picture(6, (40, 66))
    used = (
        "The start picture has another shape than the new one, so only {} of its {} pixels are used, about the "
        "centre. Set “Width” and “Height” to its shape to use all of it."
    )
    assert generate(**wish, start_image=wide).notes == (used.format("40 x 40", "90 x 40"),)
    assert generate(**wish, start_image=tall, width=64, height=96).notes == (used.format("40 x 60", "40 x 66"),)
    assert generate(**wish, start_image=noise_picture(6, (90, 89))).notes == ()


@pytest.mark.parametrize("adapter", ["base", "fine"])
def test_scale_zero_and_no_reference_are_the_same_bytes(generate: Generate, adapter: str) -> None:
    none = generate(task="mix", prompt="a red cat", seed=5)
    zero = generate(task="mix", prompt="a red cat", seed=5, references=(reference(),), scale=0, adapter=adapter)
    some = generate(task="mix", prompt="a red cat", seed=5, references=(reference(),), scale=0.5, adapter=adapter)
    assert pixels(none) == pixels(zero) != pixels(some)


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "variation"},
        {"task": "mix", "prompt": "a dog", "adapter": "fine", "guidance_scale": 1},
        {"task": "inpaint", "image": noise_picture(3, (50, 70)), "mask": noise_picture(4).convert("L")},
        {"task": "pose", "pose": SKELETON},
    ],
    ids=lambda fields: fields["task"],
)
def test_the_same_request_gives_the_same_bytes(generate: Generate, fields: dict) -> None:
    first, second = (generate(references=(reference(),), seed=3, **fields) for _ in range(2))
    assert pixels(first) == pixels(second)
    assert first.settings == second.settings
    assert pixels(first) != pixels(generate(references=(reference(),), seed=4, **fields))


def test_a_picture_of_a_series_can_be_made_again_alone(generate: Generate) -> None:
    series = generate(task="variation", references=(reference(),), seed=10, count=3)
    assert series.seeds == (10, 11, 12)
    alone = generate(task="variation", references=(reference(),), seed=series.seeds[2])
    assert pixels(alone) == pixels(series)[2:]
    assert len(set(pixels(series))) == 3


def test_every_input_changes_the_picture(generate: Generate) -> None:
    base = {"task": "pose", "pose": SKELETON, "prompt": "a cat", "references": (reference(),), "seed": 1}
    changes: list[dict] = [
        {},
        {"prompt": "a dog"},
        {"negative_prompt": "a dog"},
        {"references": (reference(1),)},
        {"references": (reference(0, weight=0.25),)},
        {"references": (reference(0), reference(1))},
        {"adapter": "fine"},
        {"scale": 0.5},
        {"seed": 2},
        {"steps": 3},
        {"guidance_scale": 5},
        {"control_scale": 0.2},
        {"references": (Reference(image=noise_picture(), view="pad"),)},
        {"references": (Reference(image=noise_picture(), view="stretch"),)},
        {"references": (Reference(image=noise_picture(), view="tiles"),)},
        {"references": (Reference(image=noise_picture(), centre_x=0),)},
        {"negative_reference": noise_picture(9)},
        {"end": 0.5},
        {"start": 0.5},
        {"control_end": 0.5},
        {"control_start": 0.5},
        {"pose": draw_skeleton(list(presets().values())[-1], (64, 64))},
        {"width": 72},
    ]
    drawn = [pixels(generate(**{**base, **change}))[0] for change in changes]
    same = [(changes[i], changes[j]) for i, j in itertools.combinations(range(len(drawn)), 2) if drawn[i] == drawn[j]]
    assert same == []


def test_tiles_of_a_picture_count_as_its_squares_side_by_side(generate: Generate) -> None:
    wide = noise_picture(3).resize((100, 50))
    tiles = Reference(image=wide, view="tiles", weight=0.7)
    halves = [Reference(image=wide, centre_x=centre, weight=0.7) for centre in (0, 1)]
    base = {"task": "variation", "seed": 1}
    assert pixels(generate(**base, references=(tiles,))) == pixels(generate(**base, references=tuple(halves)))


def test_keypoints_draw_the_same_as_their_picture_at_the_size_of_the_output(generate: Generate) -> None:
    sheet = preset_sheets()["waving"]
    for size in ((64, 64), (96, 40)):
        width, height = size
        base = {"task": "pose", "prompt": "a cat", "seed": 1, "width": width, "height": height}
        from_keypoints = generate(**base, pose=sheet)
        assert pixels(from_keypoints) == pixels(generate(**base, pose=draw_sheet(sheet, size)))
        assert from_keypoints.settings["pose"] == sheet.to_openpose()


def test_a_size_that_is_asked_for_is_what_comes(generate: Generate) -> None:
    assert generate(task="mix", prompt="a cat", width=96, height=40).images[0].size == (96, 40)


def test_two_clients_at_once_get_what_each_gets_alone(engine: Engine, generate: Generate) -> None:
    orders = [
        {"task": "variation", "references": (reference(1),), "adapter": "base", "scale": 1.0, "seed": 1, "count": 2},
        {"task": "variation", "references": (reference(2),), "adapter": "fine", "scale": 0.4, "seed": 2, "count": 2},
    ]
    alone = [pixels(generate(**order)) for order in orders]
    together: list[list[bytes]] = [[], []]

    def client(index: int) -> None:
        together[index] = pixels(generate(**orders[index]))

    threads = [threading.Thread(target=client, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert together == alone


def test_swapping_adapters_reads_no_file(tiny_bundle_dir: Path, tmp_path: Path, generate: Generate) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    manager = ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu")
    engine = Engine(manager)
    manager.get("toybox", timeout=TIMEOUT_S)
    shutil.rmtree(folder)
    try:
        for adapter in ("base", "fine", "base"):
            order = {"task": "variation", "references": (reference(),), "adapter": adapter, "seed": 1}
            drawn = engine.submit(GenerateRequest(**order)).result(TIMEOUT_S)
            assert pixels(drawn) == pixels(generate(**order))
    finally:
        engine.close()
