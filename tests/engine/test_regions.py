"""References that apply to a part of the new picture only: a half, or a painted region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.image_processor import IPAdapterMaskProcessor
from PIL import Image

from ipa_app.adapter import ImagePrompt
from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import draw
from ipa_app.engine.engine import Engine
from ipa_app.engine.plan import make_plan
from ipa_app.engine.references import Reference, RegionName
from ipa_app.engine.regions import REGION_COLOURS, half_mask, painted_mask, place, show_regions
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, Generate, furthest, noise_picture, pixels, reference
from tests.sample_requests import OF_TASK, sample_request

FILES = {"base": "ip-adapter_toybox.safetensors", "fine": "ip-adapter-plus_toybox.safetensors"}
HALVES: dict[str, tuple[RegionName, RegionName]] = {"across": ("left", "right"), "down": ("upper", "lower")}
SQUARES = noise_picture(1, (32, 32)), noise_picture(2, (32, 32))
WISH: dict[str, Any] = {"task": "mix", "prompt": "a red cat", "seed": 5, "scale": 0.8}
WEIGHTS = (0.5, 1.0, 1.5, 0.75)


def half(direction: str, size: tuple[int, int], *, first: bool) -> Image.Image:
    """Return a mask that is white in its first or its second half."""
    mask = Image.new("L", size, 0 if first else 255)
    box = (0, 0, size[0] // 2, size[1]) if direction == "across" else (0, 0, size[0], size[1] // 2)
    mask.paste(255 if first else 0, box)
    return mask


def draw_theirs(
    folder: Path, *, adapter: str, size: tuple[int, int], masks: list[Image.Image], images: tuple[Image.Image, ...]
) -> Image.Image:
    """Return one picture by plain diffusers with all images, each with its mask, from the engine's initial noise."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_ip_adapter(
        str(folder), subfolder="adapters", weight_name=FILES[adapter], image_encoder_folder=None, local_files_only=True
    )
    pipeline.set_ip_adapter_scale([[WISH["scale"] * weight for weight in WEIGHTS[: len(images)]]])
    tensors = IPAdapterMaskProcessor(do_binarize=False).preprocess(masks, height=size[1], width=size[0])
    noise = torch.randn((1, 4, size[1] // 8, size[0] // 8), generator=torch.Generator().manual_seed(WISH["seed"]))
    return pipeline(
        WISH["prompt"],
        latents=noise,
        ip_adapter_image=[list(images)],
        cross_attention_kwargs={"ip_adapter_masks": [tensors.reshape(1, len(masks), size[1], size[0])]},
        num_inference_steps=2,
        guidance_scale=3.0,
        width=size[0],
        height=size[1],
    ).images[0]


def halved(direction: str) -> tuple[Reference, ...]:
    """Return a reference for each half."""
    return tuple(
        Reference(image=image, region=region, weight=weight)
        for image, region, weight in zip(SQUARES, HALVES[direction], WEIGHTS[:2], strict=True)
    )


@pytest.mark.parametrize("adapter", ["base", "fine"])
@pytest.mark.parametrize("direction", HALVES)
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (72, 56)], ids=str)
def test_two_halves_are_what_they_are_in_diffusers(
    generate: Generate, tiny_bundle_dir: Path, size: tuple[int, int], direction: str, adapter: str
) -> None:
    # Nine cells along the halved side become five in a deeper layer. Seven become four: diffusers gives two whole cells
    # to each half, and the app weights them by the cells they come from.
    size = size if direction == "across" else (size[1], size[0])
    fields = {**WISH, "adapter": adapter, "width": size[0], "height": size[1]}
    drawn = generate(**fields, references=halved(direction)).images[0]
    halves = [half(direction, size, first=first) for first in (True, False)]
    theirs = draw_theirs(tiny_bundle_dir, adapter=adapter, size=size, masks=halves, images=SQUARES)
    assert furthest(drawn, theirs) <= 1
    together = tuple(Reference(image=each, weight=weight) for each, weight in zip(SQUARES, WEIGHTS[:2], strict=True))
    assert furthest(drawn, generate(**fields, references=together).images[0]) > 1


def test_without_regions_all_pictures_are_one_prompt_bit_for_bit(generate: Generate, manager: ModelManager) -> None:
    model = manager.get("toybox", timeout=TIMEOUT_S)
    plan = make_plan(GenerateRequest(**WISH), model.entry)
    prompts = [model.encode(square, model.entry.adapters["base"]) for square in SQUARES]
    joined = ImagePrompt.concat(prompts, weights=WEIGHTS[:2]).with_scale(WISH["scale"])
    row = BatchItem(prompt=WISH["prompt"], negative_prompt="", seed=WISH["seed"], image_prompts=(joined,))
    (expected,) = draw(model, [row], plan=plan, on_step=lambda _: None)
    assert expected is not None
    references = tuple(Reference(image=each, weight=weight) for each, weight in zip(SQUARES, WEIGHTS[:2], strict=True))
    assert pixels(generate(**WISH, references=references)) == [expected.tobytes()]


@pytest.mark.parametrize("region", ["everywhere", "left", None])
def test_a_reference_of_weight_0_changes_nothing(region: RegionName | None, generate: Generate) -> None:
    one, mask = Reference(image=SQUARES[0]), Image.new("L", (8, 8), 255)
    silent = Reference(image=SQUARES[1], weight=0, region=region or "everywhere", region_mask=None if region else mask)
    alone = pixels(generate(**WISH, references=(one,)))
    assert pixels(generate(**WISH, references=(one, silent))) == alone
    assert pixels(generate(**WISH, references=(silent, one))) == alone


def test_every_region_draws_another_picture_and_is_noted(generate: Generate) -> None:
    regions: tuple[RegionName, ...] = ("everywhere", "left", "right", "upper", "lower")
    results = [generate(**WISH, references=(Reference(image=SQUARES[0], region=region),)) for region in regions]
    assert len({pixels(result)[0] for result in results}) == len(regions)
    assert [result.settings["references"][0]["region"] for result in results] == list(regions)


def test_pictures_of_one_region_are_looked_at_together(generate: Generate) -> None:
    """Their tokens share one softmax, as everywhere: the same picture twice acts as once."""
    once, twice = ((Reference(image=SQUARES[0], region="left"),) * times for times in (1, 2))
    one, two = (generate(**WISH, references=references).images[0] for references in (once, twice))
    assert furthest(one, two) <= 1


def test_a_picture_to_stay_away_from_counts_in_each_region(generate: Generate) -> None:
    plain = generate(**WISH, references=halved("across"))
    away = generate(**WISH, references=halved("across"), negative_reference=noise_picture(4))
    assert pixels(plain) != pixels(away)


def test_in_inpainting_halves_are_those_of_the_whole_picture(generate: Generate) -> None:
    """The redrawn part is on the right, where the left half's reference has no effect."""
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
    assert half_mask("everywhere", **whole) is None
    left, lower = half_mask("left", **whole), half_mask("lower", **whole)
    assert left is not None
    assert lower is not None
    assert left.tolist() == [[1, 1, 1, 1, 0.5, 0, 0, 0, 0]] * 7
    assert lower[:, 0].tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    beyond = half_mask("right", size=(100, 50), window=(-10, 0, 70, 80), grid=(8, 8))
    assert beyond is not None
    assert beyond[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("region", ["corner", None, ["left"], 1])
def test_another_region_is_refused(region: Any) -> None:
    with pytest.raises(UserError, match="it must be everywhere or left or right or upper or lower"):
        GenerateRequest(**WISH, references=(Reference(image=reference().image, region=region),))


# ---------------------------------------------------------------- painted regions


def strips(size: tuple[int, int], levels: list[list[int]]) -> list[Image.Image]:
    """Return masks of vertical strips of equal width with these levels."""
    masks = [Image.new("L", (len(each), 1)) for each in levels]
    for mask, each in zip(masks, levels, strict=True):
        mask.putdata(each)
    return [mask.resize(size, Image.Resampling.NEAREST) for mask in masks]


def painted(*masks: Image.Image, weights: tuple[float, ...] = WEIGHTS) -> tuple[Reference, ...]:
    return tuple(
        Reference(image=noise_picture(number, (32, 32)), region_mask=mask, weight=weight)
        for number, (mask, weight) in enumerate(zip(masks, weights, strict=False), start=1)
    )


FOUR = [[255, 128, 0, 0], [0, 127, 64, 0], [0, 0, 191, 0], [0, 0, 0, 255]]


@pytest.mark.parametrize("adapter", ["base", "fine"])
@pytest.mark.parametrize("size", [(64, 64), (128, 88), (128, 56)], ids=str)
def test_four_painted_regions_with_soft_edges_are_what_they_are_in_diffusers(
    generate: Generate, tiny_bundle_dir: Path, size: tuple[int, int], adapter: str
) -> None:
    # Nine rows become five; diffusers makes four of them, and its masks are misaligned.
    masks = strips(size, FOUR)
    references = painted(*masks)
    images = tuple(each.image for each in references)
    fields = {**WISH, "adapter": adapter, "width": size[0], "height": size[1]}
    drawn = generate(**fields, references=references).images[0]
    theirs = draw_theirs(tiny_bundle_dir, adapter=adapter, size=size, masks=masks, images=images)
    assert furthest(drawn, theirs) <= 1
    everywhere = tuple(Reference(image=each.image, weight=each.weight) for each in references)
    assert furthest(drawn, generate(**fields, references=everywhere).images[0]) > 1


@pytest.mark.parametrize("task", OF_TASK)
def test_every_task_takes_painted_regions_beside_requests_without_and_draws_them_as_alone(
    generate: Generate, engine: Engine, task: str
) -> None:
    masks = strips((40, 30), FOUR)
    wishes = [
        sample_request(task, model="toybox", part="all", style="", speed="best", count=1, references=each)
        for each in (
            painted(*masks),
            painted(masks[0]),
            painted(masks[3]),
            (Reference(image=SQUARES[0]),),
            halved("down"),
        )
    ]
    alone = [pixels(engine.submit(each).result(TIMEOUT_S)) for each in wishes]
    assert len({tuple(each) for each in alone}) == len(wishes)
    jobs = [engine.submit(each) for each in wishes]
    for job, expected in zip(jobs, alone, strict=True):
        (drawn,) = job.result(TIMEOUT_S).images
        assert furthest(drawn, Image.frombytes(drawn.mode, drawn.size, expected[0])) <= 1


def test_what_overlaps_is_shared_by_weight() -> None:
    """Where masks add up to more than one, each is divided by the sum; soft edges that cross keep their levels."""
    whole = {"size": (32, 8), "window": (0, 0, 32, 8), "grid": (4, 1)}
    masks = strips((32, 8), [[255, 255, 51, 0], [0, 255, 204, 255], [0, 255, 0, 0]])
    placed = place(painted(*masks, weights=(1, 0.5, 0)), **whole)
    shares = [share[0].tolist() for _, share in placed if share is not None]
    assert [one.weight for (one,), _ in placed] == [1, 0.5]  # a weight of zero claims nothing
    assert shares == [pytest.approx([1, 0.5, 0.2, 0]), pytest.approx([0, 0.5, 0.8, 1])]
    beside = place(
        (*painted(masks[0]), Reference(image=SQUARES[0]), Reference(image=SQUARES[0], region="left")), **whole
    )
    assert [share[0].tolist() for _, share in beside if share is not None] == [
        pytest.approx([1 / 3, 1 / 3, 0.2 / 1.2, 0]),
        pytest.approx([1 / 3, 1 / 3, 1 / 1.2, 1]),
        pytest.approx([1 / 3, 1 / 3, 0, 0]),
    ]


def test_where_no_picture_weighs_anything_none_is_shown_to_count() -> None:
    nothing, ground = painted(*strips((32, 8), [[255, 0, 0, 255]]), weights=(0,)), Image.new("RGB", (32, 8), "white")
    assert show_regions(nothing, ground, colours=REGION_COLOURS[:1]).tobytes() == ground.tobytes()


def test_a_picture_that_is_given_twice_for_one_place_counts_as_once(generate: Generate) -> None:
    (mask,) = strips((64, 64), [[255, 255, 0, 0]])
    one = painted(mask)
    assert furthest(*(generate(**WISH, references=each).images[0] for each in (one, one * 2))) <= 1


def test_a_mask_that_is_white_in_a_half_is_that_half(generate: Generate) -> None:
    left, right = (half("across", (40, 10), first=first) for first in (True, False))
    references = tuple(
        Reference(image=image, region_mask=mask, weight=weight)
        for image, mask, weight in zip(SQUARES, (left, right), WEIGHTS, strict=False)
    )
    drawn = generate(**WISH, width=72, height=56, references=references)
    assert furthest(drawn.images[0], generate(**WISH, width=72, height=56, references=halved("across")).images[0]) <= 1
    assert [note.key for note in drawn.notes] == ["region.stretched"] * 2


def test_in_inpainting_a_painted_region_is_of_the_whole_picture(generate: Generate) -> None:
    image, mask = noise_picture(3, (200, 64)), Image.new("L", (200, 64))
    mask.paste(255, (150, 8, 190, 56))
    fields = {"task": "inpaint", "image": image, "mask": mask, "prompt": "a cat", "seed": 1}
    elsewhere, there = strips((200, 64), [[255, 255, 0, 0], [0, 0, 255, 255]])
    drawn = [pixels(generate(**fields, references=painted(each, weights=(1.0,)))) for each in (elsewhere, there)]
    everywhere = Reference(image=noise_picture(1, (32, 32)))
    assert drawn[0] == pixels(generate(**fields))
    assert drawn[1] == pixels(generate(**fields, references=(everywhere,)))


def test_painted_shares_follow_the_window_and_edges_get_soft() -> None:
    (mask,) = strips((40, 20), [[255, 0, 255, 0]])
    cells = painted_mask(mask, size=(40, 20), window=(-10, 0, 30, 20), grid=(4, 2))
    assert cells.tolist() == [pytest.approx([1, 1, 0, 1])] * 2
    whole = {"size": (40, 20), "window": (0, 0, 40, 20), "grid": (40, 20)}
    soft = Reference(image=SQUARES[0], region_mask=mask, region_softness=10)
    ((_, share),) = place((soft,), **whole)
    assert share is not None
    assert [round(level, 1) for level in share[10, 7:13].tolist()] == pytest.approx(
        [1, 0.9, 0.7, 0.3, 0.1, 0], abs=0.11
    )


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"region": "painted"}, "region.no_mask"),
        ({"region": "left", "region_mask": Image.new("L", (8, 8), 255)}, "region.two_places"),
        ({"region_mask": Image.new("L", (8, 8))}, "region.empty"),
        ({"region_mask": "left.png"}, "option.wrong_value"),
        ({"region_softness": 21}, "option.wrong_value"),
    ],
)
def test_a_region_that_says_nothing_or_two_things_is_refused(fields: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError) as refused:
        Reference(image=SQUARES[0], **fields)
    assert refused.value.message.key == key
