"""References that count in one half of the new picture only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.image_processor import IPAdapterMaskProcessor
from PIL import Image, ImageChops

from ipa_app.adapter import ImagePrompt
from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import draw
from ipa_app.engine.plan import make_plan
from ipa_app.engine.prepared import region_mask
from ipa_app.engine.references import Reference, RegionName
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, Generate, noise_picture, pixels, reference

FILES = {"base": "ip-adapter_toybox.safetensors", "fine": "ip-adapter-plus_toybox.safetensors"}
HALVES: dict[str, tuple[RegionName, RegionName]] = {"across": ("left", "right"), "down": ("upper", "lower")}
SQUARES = noise_picture(1, (32, 32)), noise_picture(2, (32, 32))
WISH: dict[str, Any] = {"task": "mix", "prompt": "a red cat", "seed": 5, "scale": 0.8}
WEIGHTS = (0.5, 1.0)


def half(direction: str, size: tuple[int, int], *, first: bool) -> Image.Image:
    """A mask of a size that is white in its first or its second half."""
    mask = Image.new("L", size, 0 if first else 255)
    box = (0, 0, size[0] // 2, size[1]) if direction == "across" else (0, 0, size[0], size[1] // 2)
    mask.paste(255 if first else 0, box)
    return mask


def draw_theirs(folder: Path, *, adapter: str, size: tuple[int, int], direction: str) -> Image.Image:
    """Both pictures by plain diffusers, each masked to its half, the noise drawn as the engine draws it."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_ip_adapter(
        str(folder), subfolder="adapters", weight_name=FILES[adapter], image_encoder_folder=None, local_files_only=True
    )
    pipeline.set_ip_adapter_scale([[WISH["scale"] * weight for weight in WEIGHTS]])
    halves = [half(direction, size, first=first) for first in (True, False)]
    masks = IPAdapterMaskProcessor().preprocess(halves, height=size[1], width=size[0]).reshape(1, 2, size[1], size[0])
    noise = torch.randn((1, 4, size[1] // 8, size[0] // 8), generator=torch.Generator().manual_seed(WISH["seed"]))
    return pipeline(
        WISH["prompt"],
        latents=noise,
        ip_adapter_image=[list(SQUARES)],
        cross_attention_kwargs={"ip_adapter_masks": [masks]},
        num_inference_steps=2,
        guidance_scale=3.0,
        width=size[0],
        height=size[1],
    ).images[0]


def halved(direction: str) -> tuple[Reference, ...]:
    """A reference for either half."""
    return tuple(
        Reference(image=image, region=region, weight=weight)
        for image, region, weight in zip(SQUARES, HALVES[direction], WEIGHTS, strict=True)
    )


@pytest.mark.parametrize("adapter", ["base", "fine"])
@pytest.mark.parametrize("direction", HALVES)
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (72, 56)], ids=str)
def test_two_halves_are_what_they_are_in_diffusers(
    generate: Generate, tiny_bundle_dir: Path, size: tuple[int, int], direction: str, adapter: str
) -> None:
    # Nine cells along the halved side become five in a deeper layer. Of seven, which become four, diffusers gives two
    # whole ones to each half, and the app their share of the cells they are made from.
    size = size if direction == "across" else (size[1], size[0])
    fields = {**WISH, "adapter": adapter, "width": size[0], "height": size[1]}
    drawn = generate(**fields, references=halved(direction)).images[0]
    assert furthest(drawn, draw_theirs(tiny_bundle_dir, adapter=adapter, size=size, direction=direction)) <= 1
    together = tuple(Reference(image=each, weight=weight) for each, weight in zip(SQUARES, WEIGHTS, strict=True))
    assert furthest(drawn, generate(**fields, references=together).images[0]) > 1


def furthest(one: Image.Image, other: Image.Image) -> int:
    """The largest difference between two pictures, in levels of 255."""
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


def test_without_regions_all_pictures_are_one_prompt_bit_for_bit(generate: Generate, manager: ModelManager) -> None:
    model = manager.get("toybox", timeout=TIMEOUT_S)
    plan = make_plan(GenerateRequest(**WISH), model.entry)
    prompts = [model.encode(square, model.entry.adapters["base"]) for square in SQUARES]
    joined = ImagePrompt.concat(prompts, weights=WEIGHTS).with_scale(WISH["scale"])
    row = BatchItem(prompt=WISH["prompt"], negative_prompt="", seed=WISH["seed"], image_prompts=(joined,))
    (expected,) = draw(model, [row], plan=plan, on_step=lambda _: None)
    assert expected is not None
    references = tuple(Reference(image=each, weight=weight) for each, weight in zip(SQUARES, WEIGHTS, strict=True))
    assert pixels(generate(**WISH, references=references)) == [expected.tobytes()]


def test_every_region_draws_another_picture_and_is_noted(generate: Generate) -> None:
    regions: tuple[RegionName, ...] = ("everywhere", "left", "right", "upper", "lower")
    results = [generate(**WISH, references=(Reference(image=SQUARES[0], region=region),)) for region in regions]
    assert len({pixels(result)[0] for result in results}) == len(regions)
    assert [result.settings["references"][0]["region"] for result in results] == list(regions)


def test_pictures_of_one_region_are_looked_at_together(generate: Generate) -> None:
    """Their tokens share one softmax, as everywhere: one twice is as one."""
    once, twice = ((Reference(image=SQUARES[0], region="left"),) * times for times in (1, 2))
    one, two = (generate(**WISH, references=references).images[0] for references in (once, twice))
    assert furthest(one, two) <= 1


def test_a_picture_to_stay_away_from_counts_in_each_region(generate: Generate) -> None:
    plain = generate(**WISH, references=halved("across"))
    away = generate(**WISH, references=halved("across"), negative_reference=noise_picture(4))
    assert pixels(plain) != pixels(away)


def test_in_inpainting_halves_are_those_of_the_whole_picture(generate: Generate) -> None:
    """What is redrawn lies on the right: there the left half's reference has nothing to say."""
    image, mask = noise_picture(3, (200, 64)), Image.new("L", (200, 64))
    mask.paste(255, (150, 8, 190, 56))
    fields = {"task": "inpaint", "image": image, "mask": mask, "prompt": "a cat", "seed": 1}

    def painted(*references: Reference) -> list[bytes]:
        return pixels(generate(**fields, references=references))

    left, right, everywhere = (Reference(image=SQUARES[0], region=name) for name in ("left", "right", "everywhere"))
    assert painted(left) == painted()
    assert painted(right) == painted(everywhere)
    assert painted(right) != painted()


def test_shares_of_cells_are_exact_and_follow_the_window() -> None:
    whole = {"size": (90, 70), "window": (0, 0, 90, 70), "grid": (9, 7)}
    assert region_mask("everywhere", **whole) is None
    left, lower = region_mask("left", **whole), region_mask("lower", **whole)
    assert left is not None
    assert lower is not None
    assert left.tolist() == [[1, 1, 1, 1, 0.5, 0, 0, 0, 0]] * 7
    assert lower[:, 0].tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    beyond = region_mask("right", size=(100, 50), window=(-10, 0, 70, 80), grid=(8, 8))
    assert beyond is not None
    assert beyond[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("region", ["corner", None, ["left"], 1])
def test_another_region_is_refused(region: Any) -> None:
    with pytest.raises(UserError, match="it must be everywhere or left or right or upper or lower"):
        GenerateRequest(**WISH, references=(Reference(image=reference().image, region=region),))
