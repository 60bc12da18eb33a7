"""A region's own prompt: it replaces the prompt within the region, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from ipa_app.adapter import RegionalPrompt
from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import draw
from ipa_app.engine.engine import Engine
from ipa_app.engine.plan import make_plan
from ipa_app.engine.prompts import read_region_prompts
from ipa_app.engine.references import Reference, RegionName
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.manager import ModelManager
from ipa_app.models.prompt_encoding import token_states
from tests.adapter.test_regional_prompt import MixedProcessor, left_and_right
from tests.engine.conftest import TIMEOUT_S, Generate, furthest, noise_picture, pixels
from tests.engine.test_prompts import FULL
from tests.engine.test_regions import half
from tests.sample_requests import OF_TASK, STYLES, sample_request

WISH: dict[str, Any] = {"task": "mix", "prompt": "a dog on the beach", "seed": 5, "scale": 0.8}
WORDS = "a red cat", "a (blue:1.4) frog with a hat"
SQUARES = noise_picture(1, (32, 32)), noise_picture(2, (32, 32))
WHITE = Image.new("L", (8, 8), 255)


def everywhere(words: str, **more: Any) -> Reference:
    """Return a reference with a region prompt, painted to apply everywhere."""
    return Reference(image=SQUARES[0], region_mask=WHITE, region_prompt=words, **more)


def halves(*words: str, names: tuple[RegionName, RegionName] = ("left", "right")) -> tuple[Reference, ...]:
    return tuple(
        Reference(image=image, region=name, region_prompt=text)
        for image, name, text in zip(SQUARES, names, words, strict=True)
    )


@pytest.mark.parametrize("size", [(64, 64), (72, 56), (96, 64)], ids=str)
def test_without_pictures_halves_are_plain_diffusers_with_its_attention_shared(
    generate: Generate, manager: ModelManager, tiny_bundle_dir: Path, size: tuple[int, int]
) -> None:
    model = manager.get("toybox", timeout=TIMEOUT_S)
    width, height = size
    drawn = generate(**{**WISH, "scale": 0}, references=halves(*WORDS), width=width, height=height).images[0]

    theirs: Any = StableDiffusionPipeline.from_pretrained(tiny_bundle_dir, local_files_only=True, dtype=torch.float32)
    theirs.set_progress_bar_config(disable=True)
    with torch.no_grad():
        states = token_states(model.family, theirs, WORDS, device=model.device)
    shares = left_and_right(height // 8, width // 8)
    # Row 1 is the prompt's; row 0, of the negative prompt, has no region prompts.
    theirs.unet.set_attn_processor(MixedProcessor({1: list(zip(states, shares, strict=True))}))
    noise = torch.randn((1, 4, height // 8, width // 8), generator=torch.Generator().manual_seed(WISH["seed"]))
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": width, "height": height}
    assert furthest(drawn, theirs(WISH["prompt"], latents=noise, **settings).images[0]) <= 1
    assert furthest(drawn, generate(**{**WISH, "scale": 0}, width=width, height=height).images[0]) > 1


@pytest.mark.parametrize("adapter", ["base", "fine"])
@pytest.mark.parametrize("task", ["variation", "mix", "inpaint"])
def test_words_for_the_whole_picture_draw_what_the_prompt_would(generate: Generate, task: str, adapter: str) -> None:
    fields = {"task": task, "seed": 3, "adapter": adapter, "width": 72, "height": 64, **OF_TASK[task]}
    plain = Reference(image=SQUARES[0], region_mask=WHITE)
    worded = generate(**fields, prompt="a dog", references=(everywhere(WORDS[1]),)).images[0]
    assert furthest(worded, generate(**fields, prompt=WORDS[1], references=(plain,)).images[0]) <= 1
    assert furthest(worded, generate(**fields, prompt="a dog", references=(plain,)).images[0]) > 1


def test_what_controls_the_pose_is_told_the_prompt(generate: Generate) -> None:
    """A region prompt does not replace the prompt of the ControlNet, even where the region is the whole picture."""
    fields = {"task": "pose", "seed": 3, "steps": 3, **OF_TASK["pose"], "pose_detector": "openpose"}
    plain = Reference(image=SQUARES[0], region_mask=WHITE)
    drawn = [
        pixels(generate(**fields, prompt=prompt, references=(reference,)))
        for prompt, reference in (("a dog", plain), (WORDS[0], plain), ("a dog", everywhere(WORDS[0])))
    ]
    assert len({tuple(each) for each in drawn}) == 3


def test_in_inpainting_words_for_what_is_not_redrawn_change_no_bit(generate: Generate) -> None:
    image, mask = noise_picture(3, (200, 64)), Image.new("L", (200, 64))
    mask.paste(255, (150, 8, 190, 56))
    fields = {"task": "inpaint", "image": image, "mask": mask, "prompt": "a cat", "seed": 1}
    elsewhere = generate(**fields, references=halves(WORDS[0], ""))
    assert pixels(elsewhere) == pixels(generate(**fields, references=halves("", "")))
    assert pixels(generate(**fields, references=halves("", WORDS[0]))) != pixels(elsewhere)


@pytest.mark.parametrize("changes", [{"weight": 0.0}, {"start": 0.0, "end": 0.5}], ids=str)
def test_words_count_however_strongly_and_whenever_their_picture_does(
    generate: Generate, changes: dict[str, Any]
) -> None:
    fields = {**WISH, "steps": 4}
    plain = Reference(image=SQUARES[0], region_mask=WHITE, **changes)
    worded = generate(**fields, references=(everywhere(WORDS[0], **changes),))
    expected = generate(**{**fields, "prompt": WORDS[0]}, references=(plain,))
    assert furthest(worded.images[0], expected.images[0]) <= 1


def test_a_picture_without_words_leaves_the_place_to_those_of_others(generate: Generate) -> None:
    beside = Reference(image=SQUARES[1])
    fields = {**WISH, "scale": 0}
    worded = generate(**fields, references=(everywhere(WORDS[0]), beside)).images[0]
    assert furthest(worded, generate(**{**fields, "prompt": WORDS[0]}).images[0]) <= 1


def test_words_for_one_place_share_it(generate: Generate) -> None:
    """The same words twice act as once, and the order of two does not matter."""
    fields = {**WISH, "scale": 0}
    once, twice, two, turned = (
        generate(**fields, references=halves(*words, names=names)).images[0]
        for words, names in (
            ((WORDS[0], ""), ("left", "right")),
            ((WORDS[0], WORDS[0]), ("left", "left")),
            (WORDS, ("left", "upper")),
            (WORDS[::-1], ("upper", "left")),
        )
    )
    assert furthest(once, twice) <= 1
    assert furthest(two, turned) <= 1
    assert furthest(two, once) > 1


def test_beside_others_a_picture_without_words_is_the_same_bit_for_bit(manager: ModelManager) -> None:
    """In one batch of three, two with region prompts of different numbers and lengths."""
    model = manager.get("toybox", timeout=TIMEOUT_S)
    plan = make_plan(GenerateRequest(**WISH), model.entry)
    with torch.inference_mode():
        states = token_states(
            model.family, model.pipelines["text_to_image"], [*WORDS, "cat " * 30], device=model.device
        )
    left, right = left_and_right(8, 8)
    told = [RegionalPrompt(states=each, share=share) for each, share in zip(states, (left, right, left), strict=True)]
    plain = [BatchItem(prompt="a dog", negative_prompt="a hat", seed=seed) for seed in range(3)]

    def drawn(items: list[BatchItem]) -> list[Image.Image]:
        made = draw(model, items, plan=plan, on_step=lambda _: None)
        return [each for each in made if each is not None]

    worded = [replace(plain[0], regional_prompts=tuple(told[:2])), plain[1]]
    worded += [replace(plain[2], regional_prompts=tuple(told[1:]))]
    together, without = drawn(worded), drawn(plain)
    assert together[1].tobytes() == without[1].tobytes()
    for number in (0, 2):
        (alone,) = drawn([worded[number]])
        assert furthest(together[number], alone) <= 1
        assert furthest(together[number], without[number]) > 1


@pytest.mark.parametrize("task", OF_TASK)
def test_every_task_takes_words_beside_requests_without_and_draws_them_as_alone(engine: Engine, task: str) -> None:
    """At odd sizes, too; the same bytes with and without other requests in the queue."""
    changes = {"model": "toybox", "part": "all", "style": "", "speed": "best", "count": 1}
    told = halves(*WORDS), halves(WORDS[0], ""), halves("", "")
    wishes = [sample_request(task, **changes, references=each) for each in told]
    alone = [pixels(engine.submit(each).result(TIMEOUT_S)) for each in wishes]
    assert len({tuple(each) for each in alone}) == len(wishes)
    jobs = [engine.submit(each) for each in wishes]
    assert [pixels(job.result(TIMEOUT_S)) for job in jobs] == alone


def test_they_are_read_as_the_prompt_is(generate: Generate) -> None:
    """With weights, a model's dictionary, and the style of the whole picture, applied once."""

    def drawn(words: str) -> list[bytes]:
        return pixels(generate(**WISH, references=(everywhere(words),)))

    assert drawn("一只(红色:1.3)猫") == drawn("a (red:1.3) cat") != drawn("a red cat")
    assert drawn("ａ ｒｅｄ cat") == drawn("a red cat")


def test_a_style_stands_around_them_once(manager: ModelManager) -> None:
    entry = replace(manager.entry("toybox"), styles=STYLES)
    request = GenerateRequest(task="mix", prompt="a dog", references=halves("a cat", ""), style="night")
    assert read_region_prompts(make_plan(request, entry)) == ("a cat, on the beach", "")


def test_what_is_not_read_of_them_is_said_with_their_number(generate: Generate) -> None:
    result = generate(**{**WISH, "scale": 0}, references=halves("", f"{FULL} dog"), steps=1)
    assert result.notes == (
        "“Words for its place” of reference picture 2 is longer than Tiny can use; these words are not used: “dog”.",
    )
    mask = half("across", (20, 40), first=True)
    stretched = generate(**{**WISH, "scale": 0}, references=(replace(everywhere("a cat"), region_mask=mask),))
    assert [note.key for note in stretched.notes] == ["region.stretched"]


def test_at_strength_0_words_are_noted_with_their_references(generate: Generate) -> None:
    worded, plain = (generate(**{**WISH, "scale": 0}, references=halves(words, "")) for words in (WORDS[0], " "))
    assert [each.get("region_prompt") for each in worded.settings["references"]] == [WORDS[0], None]
    assert (worded.settings["scale"], plain.settings["references"]) == (0, [])
    assert list(worded.inputs) == ["reference_1", "reference_2"]
    assert pixels(plain) == pixels(generate(**{**WISH, "scale": 0}))


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"region_prompt": "a cat"}, "region.words_everywhere"),
        ({"region": "left", "region_prompt": "a" * 2001}, "option.too_long"),
        ({"region": "left", "region_prompt": "(cat:30)"}, "prompt.weight_out_of_range"),
        ({"region": "left", "region_prompt": 7}, "option.wrong_value"),
    ],
)
def test_words_that_cannot_count_are_refused(fields: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError) as refused:
        Reference(image=SQUARES[0], **fields)
    assert (refused.value.message.key, refused.value.field) == (key, "region_prompt")


def test_a_style_that_makes_them_too_heavy_is_refused(manager: ModelManager) -> None:
    heavy = {"night": replace(STYLES["night"], prompt="({prompt}:2)")}
    entry = replace(manager.entry("toybox"), styles=heavy)
    request = GenerateRequest(task="mix", prompt="a dog", references=halves("a (cat:2)", ""), style="night")
    with pytest.raises(UserError, match="gives “cat” the weight 4"):
        make_plan(request, entry)
