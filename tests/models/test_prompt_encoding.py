"""Text embeddings of weighted and long prompts, compared with the formula and with plain diffusers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import denoise
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.loading import load_model
from ipa_app.models.prompt_encoding import MOST_CHUNKS, chunk_count, prompt_inputs, tokenize
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.presets import presets
from tests.tiny_models import tiny_tokenizer

ROOM = 22  # tokens per chunk of the tiny tokenizer
LENGTH = 24
LONG = " ".join(["red cat"] * 11 + ["dog on the beach"])


@pytest.fixture(scope="module")
def model(tiny_bundle_dir: Path) -> LoadedModel:
    return load_model(
        entry_from_folder(tiny_bundle_dir, name="toybox"), device="cpu", dtype=torch.float32, report=lambda *_: None
    )


@pytest.fixture(scope="module")
def model_xl(tiny_sdxl_dir: Path) -> LoadedModel:
    return load_model(
        entry_from_folder(tiny_sdxl_dir, name="toybox"), device="cpu", dtype=torch.float32, report=lambda *_: None
    )


def inputs(model: LoadedModel, prompts: Sequence[str], negative: Sequence[str] | None = None) -> dict[str, Tensor]:
    with torch.inference_mode():
        return prompt_inputs(model.family, model.pipelines["text_to_image"], prompts, negative, device=model.device)


def said(model: LoadedModel, text: str) -> Tensor:
    """Return diffusers' embeddings of a text of one chunk, (L, D)."""
    pipeline: Any = model.pipelines["text_to_image"]
    with torch.inference_mode():
        return pipeline.encode_prompt(text, torch.device("cpu"), 1, False)[0][0]


def weights_at(places: Sequence[int], weight: float) -> Tensor:
    weights = torch.ones(LENGTH, 1)
    weights[list(places)] = weight
    return weights


def chunk_texts(text: str) -> list[str]:
    tokenizer = tiny_tokenizer()
    return [str(tokenizer.decode(chunk.ids)).strip() for chunk in tokenize(text, tokenizer).chunks]


@pytest.mark.parametrize("count", [1, 3])
def test_short_prompts_without_weights_are_what_diffusers_says_bit_for_bit(model: LoadedModel, count: int) -> None:
    pipeline: Any = model.pipelines["text_to_image"]
    prompts, negative = ["a red cat, zebra", " ".join(["cat"] * ROOM), r""][:count], ["", "a dog", "a frog"][:count]
    with torch.inference_mode():
        expected = pipeline.encode_prompt(prompts, torch.device("cpu"), 1, True, negative_prompt=negative)
    given = inputs(model, prompts, negative)
    assert torch.equal(given["prompt_embeds"], expected[0])
    assert torch.equal(given["negative_prompt_embeds"], expected[1])


@pytest.mark.parametrize("negative", ["", "a dog"])
def test_so_it_is_with_two_encoders(model_xl: LoadedModel, tiny_sdxl_dir: Path, negative: str) -> None:
    theirs: Any = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl_dir, local_files_only=True, dtype=torch.float32)
    with torch.inference_mode():
        expected = theirs.encode_prompt("a red cat", negative_prompt=negative or None)
    names = ["prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    given = inputs(model_xl, ["a red cat"], [negative])
    assert set(given) == set(names)
    for name, each in zip(names, expected, strict=True):
        assert torch.equal(given[name], each), name


def test_padding_is_masked_if_the_text_encoder_asks_for_it(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `use_attention_mask` in its config.json does."""
    prompts, pipeline = ["a red cat", " ".join(["cat"] * ROOM), ""], model.pipelines["text_to_image"]
    unmasked = inputs(model, prompts)["prompt_embeds"]
    monkeypatch.setattr(pipeline.components["text_encoder"].config, "use_attention_mask", True, raising=False)
    with torch.inference_mode():
        expected, _ = pipeline.encode_prompt(prompts, torch.device("cpu"), 1, False)
    given = inputs(model, prompts)["prompt_embeds"]
    assert torch.equal(given, expected)
    assert not torch.equal(given[0], unmasked[0])


@pytest.mark.parametrize("weight", [0, 0.5, 1.5])
def test_a_word_is_led_away_from_the_empty_prompt_by_its_weight(model: LoadedModel, weight: float) -> None:
    states, empty = said(model, "a red cat"), said(model, "")
    given = inputs(model, [f"a (red:{weight}) cat"])["prompt_embeds"][0]
    torch.testing.assert_close(given, empty + weights_at([2], weight) * (states - empty))
    others = [place for place in range(LENGTH) if place != 2]
    assert torch.equal(given[others], states[others])


def test_each_encoder_weighs_its_own_tokens_and_the_whole_has_none(model_xl: LoadedModel) -> None:
    pipeline: Any = model_xl.pipelines["text_to_image"]
    with torch.inference_mode():
        (states, _, pooled, _), (empty, *_) = (
            pipeline.encode_prompt(text, do_classifier_free_guidance=False) for text in ("a red cat", "")
        )
    given = inputs(model_xl, ["a (red:1.5) (cat:0.5)"])
    weights = weights_at([2], 1.5) * weights_at([3], 0.5)
    torch.testing.assert_close(given["prompt_embeds"], empty + weights * (states - empty))
    assert torch.equal(given["pooled_prompt_embeds"], pooled)


def test_a_long_prompt_is_what_is_said_of_its_chunks_one_after_the_other(model: LoadedModel) -> None:
    first, second = chunk_texts(LONG)
    assert (first, second) == (" ".join(["red cat"] * 11), "dog on the beach")
    given = inputs(model, [LONG.replace("dog", "(dog:1.5)")])["prompt_embeds"][0]
    states, empty = said(model, second), said(model, "")
    weighted = empty + weights_at([1], 1.5) * (states - empty)
    torch.testing.assert_close(given, torch.cat([said(model, first), weighted]))


def test_words_are_not_cut_between_chunks() -> None:
    almost = " ".join(["cat"] * (ROOM - 2))
    assert chunk_texts(f"{almost} zebra dog") == [almost, "zebra dog"]
    # A word longer than a chunk has to be split.
    assert [len(chunk.ids) for chunk in tokenize("z" * 50, tiny_tokenizer()).chunks] == [ROOM, ROOM, 6]


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("a red cat", ""),
        ("cat " * ROOM * MOST_CHUNKS, ""),
        ("cat " * ROOM * MOST_CHUNKS + "dog", "dog"),
        ("cat " * ROOM * MOST_CHUNKS + "\n (dog on:1.5) the (beach).", "dog on the beach"),
        ("cat " * (ROOM * MOST_CHUNKS - 2) + "zebra dog", "zebra dog"),
    ],
)
def test_what_there_are_too_many_chunks_for_is_found_from_the_beginning_of_the_word(text: str, unread: str) -> None:
    assert tokenize(text, tiny_tokenizer()).unread == unread


def test_the_shorter_side_is_repeated_which_changes_nothing(model: LoadedModel) -> None:
    given = inputs(model, ["a red cat"], [LONG])
    assert given["prompt_embeds"].shape == given["negative_prompt_embeds"].shape == (1, 2 * LENGTH, 32)
    assert torch.equal(given["prompt_embeds"][0], said(model, "a red cat").repeat(2, 1))
    assert chunk_count("a red cat", LONG, [tiny_tokenizer()]) == 2
    assert chunk_count("a red cat", None, [tiny_tokenizer()]) == 1
    assert chunk_count(LONG, f"{LONG} {LONG}", [tiny_tokenizer()]) == 6
    attend = model.pipelines["text_to_image"].components["unet"]
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        once, twice = (attend(noise, 500, said(model, "a red cat").repeat(1, times, 1)).sample for times in (1, 2))
    torch.testing.assert_close(once, twice)


Draw = Callable[..., Tensor]


@pytest.fixture(scope="module")
def draw(model: LoadedModel) -> Draw:
    """Return a function that draws latents through the engine's own path."""

    def latents(*items: BatchItem, **fields: Any) -> Tensor:
        request = GenerateRequest(**({"task": "mix", "prompt": "a cat", "guidance_scale": 3, "steps": 2} | fields))
        with torch.inference_mode():
            return denoise(model, items, plan=make_plan(request, model.entry), on_step=lambda _: None)

    return latents


def theirs(pipeline: Any, seed: int, given: dict[str, Tensor], **arguments: Any) -> Tensor:
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64, "output_type": "latent"}
    return pipeline(**given, latents=noise, **settings, **arguments).images


@pytest.mark.parametrize("prompt", ["a (red:1.5) cat", LONG])
def test_what_is_drawn_is_what_diffusers_draws_of_these_states(
    model: LoadedModel, draw: Draw, tiny_bundle_dir: Path, prompt: str
) -> None:
    plain = StableDiffusionPipeline.from_pretrained(tiny_bundle_dir, local_files_only=True, dtype=torch.float32)
    expected = theirs(plain, 5, inputs(model, [prompt], ["a dog"]))
    assert torch.equal(draw(BatchItem(prompt=prompt, negative_prompt="a dog", seed=5)), expected)


def test_a_controlnet_is_told_all_of_a_long_prompt_and_nothing_of_a_reference(
    model: LoadedModel, draw: Draw, tiny_bundle_dir: Path
) -> None:
    """The image tokens are kept apart from the text's, so that no number of text tokens shifts them."""
    plain: Any = StableDiffusionControlNetPipeline.from_pretrained(
        tiny_bundle_dir,
        controlnet=model.controlnets.pipeline(model.entry.controlnet("pose")).components["controlnet"],
        local_files_only=True,
        dtype=torch.float32,
    )
    plain.load_ip_adapter(
        str(tiny_bundle_dir),
        subfolder="adapters",
        weight_name="ip-adapter-plus_toybox.safetensors",
        image_encoder_folder=None,
        local_files_only=True,
    )
    plain.set_ip_adapter_scale(0.6)
    skeleton = draw_skeleton(next(iter(presets().values())), (64, 64))
    square = skeleton.resize((32, 32))
    given = inputs(model, [LONG], ["a dog"])
    expected = theirs(plain, 5, given, image=skeleton, ip_adapter_image=square)
    reference = model.encode(square, model.entry.adapters["fine"]).with_scale(0.6)
    item = BatchItem(prompt=LONG, negative_prompt="a dog", seed=5, image_prompts=(reference,), control_image=skeleton)
    drawn = draw(item, task="pose", pose=skeleton)
    largest = expected.abs().max()
    torch.testing.assert_close(drawn / largest, expected / largest, rtol=0, atol=1e-4)
