"""SDXL draws in all four tasks, the same as plain diffusers with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

from ipa_app.adapter import RegionalPrompt
from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import denoise
from ipa_app.engine.engine import Engine
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.manager import ModelManager
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.presets import presets
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels, reference

SKELETON = draw_skeleton(next(iter(presets().values())), (64, 64))
MASK = noise_picture(4, (64, 64)).convert("L").point(lambda level: 255 * (level > 100))
FILES = {"base": "ip-adapter_toybox.safetensors", "fine": "ip-adapter-plus_toybox.safetensors"}


@pytest.fixture(scope="module")
def engine_xl(tiny_sdxl_dir: Path) -> Iterator[Engine]:
    engine = Engine(ModelManager({"toybox": entry_from_folder(tiny_sdxl_dir, name="toybox")}, device="cpu"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def model(engine_xl: Engine) -> LoadedModel:
    return engine_xl.manager.get("toybox", timeout=TIMEOUT_S)


@pytest.fixture
def theirs(tiny_sdxl_dir: Path) -> StableDiffusionXLPipeline:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl_dir, local_files_only=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_theirs(pipeline: Any, seed: int, **arguments: object) -> torch.Tensor:
    """Return the latents of one picture by plain diffusers from the engine's initial noise."""
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))
    settings = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64, "output_type": "latent"}
    return pipeline(latents=noise, **({"prompt": "a red cat"} | settings | arguments)).images


def draw_ours(model: LoadedModel, rows: list[BatchItem], **fields: Any) -> torch.Tensor:
    """Return the latents of the rows through the engine's own path."""
    request = GenerateRequest(**({"task": "mix", "prompt": "a red cat"} | fields))
    with torch.inference_mode():
        return denoise(model, rows, plan=make_plan(request, model.entry), on_step=lambda _: None)


def row(seed: int, **fields: Any) -> BatchItem:
    return BatchItem(**({"prompt": "a red cat", "negative_prompt": "", "seed": seed} | fields))


def image_prompt(model: LoadedModel, adapter: str, scale: float) -> Any:
    return model.encode(square(), model.entry.adapters[adapter]).with_scale(scale)


def square() -> Image.Image:
    return noise_picture(1, (32, 32))


def generate(engine: Engine, **fields: Any) -> GenerateResult:
    return engine.submit(GenerateRequest(**fields)).result(TIMEOUT_S)


def assert_close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare within 1e-4 of the largest value: this schedule's latents go far beyond 1."""
    largest = expected.abs().max()
    torch.testing.assert_close(ours / largest, expected / largest, rtol=0, atol=1e-4)


@pytest.mark.parametrize("negative", ["", "a dog"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_text_alone_is_plain_sdxl(
    model: LoadedModel, theirs: StableDiffusionXLPipeline, guidance_scale: float, negative: str
) -> None:
    expected = draw_theirs(theirs, 5, negative_prompt=negative or None, guidance_scale=guidance_scale)
    drawn = draw_ours(model, [row(5, negative_prompt=negative)], guidance_scale=guidance_scale)
    assert torch.equal(drawn, expected)


def test_an_empty_negative_prompt_is_a_text_where_the_model_says_so(
    model: LoadedModel, theirs: StableDiffusionXLPipeline
) -> None:
    """Rows with and without a negative prompt share a batch, and each is drawn as on its own."""
    theirs.register_to_config(force_zeros_for_empty_prompt=False)
    as_text = draw_theirs(theirs, 5)
    theirs.register_to_config(force_zeros_for_empty_prompt=True)
    as_zeros, with_words = draw_theirs(theirs, 5), draw_theirs(theirs, 6, negative_prompt="a dog")
    drawn = draw_ours(model, [row(5), row(6, negative_prompt="a dog")])
    assert_close(drawn, torch.cat([as_zeros, with_words]))
    assert (as_text - as_zeros).abs().max() > 1e-2


@pytest.mark.parametrize("adapter", ["base", "fine"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_reference_draws_what_it_draws_in_diffusers(
    model: LoadedModel,
    theirs: StableDiffusionXLPipeline,
    tiny_sdxl_dir: Path,
    adapter: str,
    guidance_scale: float,
) -> None:
    plain = draw_ours(model, [row(5)], guidance_scale=guidance_scale)
    load_ip_adapter(theirs, tiny_sdxl_dir, adapter)
    expected = draw_theirs(theirs, 5, ip_adapter_image=square(), guidance_scale=guidance_scale)
    rows = [row(5, image_prompts=(image_prompt(model, adapter, 0.6),)), row(5)]
    drawn = draw_ours(model, rows, guidance_scale=guidance_scale)
    assert_close(drawn[:1], expected)
    assert_close(drawn[1:], plain)
    assert (drawn[:1] - plain).abs().max() > 1e-2


def test_inpainting_after_a_reference_is_what_it_is_in_diffusers(
    model: LoadedModel, theirs: StableDiffusionXLPipeline, tiny_sdxl_dir: Path
) -> None:
    pipeline = StableDiffusionXLInpaintPipeline(**theirs.components, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    load_ip_adapter(pipeline, tiny_sdxl_dir, "base")
    picture = noise_picture(3, (64, 64))
    generator = torch.Generator().manual_seed(5)
    torch.randn((1, 4, 8, 8), generator=generator)  # the engine continues with the generator that drew the noise
    given = {"image": picture, "mask_image": MASK, "strength": 1.0, "generator": [generator]}
    expected = draw_theirs(pipeline, 5, ip_adapter_image=square(), **given)
    rows = [row(5, image_prompts=(image_prompt(model, "base", 0.6),), image=picture, mask=MASK)]
    drawn = draw_ours(model, rows, task="inpaint", image=picture, mask=MASK)
    assert_close(drawn, expected)


def test_a_pose_after_a_reference_is_what_it_is_in_diffusers(
    model: LoadedModel, theirs: StableDiffusionXLPipeline, tiny_sdxl_dir: Path
) -> None:
    controlnet = ControlNetModel.from_pretrained(tiny_sdxl_dir / "controlnet", dtype=torch.float32)
    pipeline = StableDiffusionXLControlNetPipeline(**theirs.components, controlnet=controlnet, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    load_ip_adapter(pipeline, tiny_sdxl_dir, "fine")
    given = {"image": SKELETON, "controlnet_conditioning_scale": 0.8}
    expected = draw_theirs(pipeline, 5, ip_adapter_image=square(), **given)
    rows = [row(5, image_prompts=(image_prompt(model, "fine", 0.6),), control_image=SKELETON)]
    drawn = draw_ours(model, rows, task="pose", pose=SKELETON, control_scale=0.8)
    assert_close(drawn, expected)


def test_words_for_a_place_are_told_to_attention_and_what_is_said_of_the_whole_stays(
    model: LoadedModel, theirs: StableDiffusionXLPipeline
) -> None:
    words, _, _, _ = theirs.encode_prompt("a blue frog", do_classifier_free_guidance=False)
    _, negative, pooled, negative_pooled = theirs.encode_prompt("a red cat")
    told = {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled}
    expected = draw_theirs(theirs, 5, prompt=None, prompt_embeds=words, negative_prompt_embeds=negative, **told)
    everywhere = RegionalPrompt(states=words[0], share=torch.ones(8, 8))
    drawn = draw_ours(model, [row(5, regional_prompts=(everywhere,)), row(5)])
    assert_close(drawn[:1], expected)
    assert_close(drawn[1:], draw_ours(model, [row(5)]))
    assert (drawn[:1] - drawn[1:]).abs().max() > 1e-2


def load_ip_adapter(pipeline: Any, folder: Path, adapter: str) -> None:
    pipeline.load_ip_adapter(
        str(folder), subfolder="adapters", weight_name=FILES[adapter], image_encoder_folder=None, local_files_only=True
    )
    pipeline.set_ip_adapter_scale(0.6)


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "variation"},
        {"task": "mix", "prompt": "a dog", "adapter": "fine", "negative_prompt": "a cat"},
        {"task": "inpaint", "image": noise_picture(3, (50, 70)), "mask": noise_picture(4).convert("L")},
        {"task": "pose", "pose": SKELETON, "adapter": "fine"},
    ],
    ids=lambda fields: fields["task"],
)
def test_every_task_draws(engine_xl: Engine, fields: dict) -> None:
    result = generate(engine_xl, references=(reference(),), seed=3, **fields)
    image = result.images[0]
    assert image.size == ((50, 70) if fields["task"] == "inpaint" else (64, 64))
    assert np.asarray(image).std() > 1
    assert pixels(result) == pixels(generate(engine_xl, references=(reference(),), seed=3, **fields))
    assert pixels(result) != pixels(generate(engine_xl, references=(reference(8),), seed=3, **fields))
    assert result.settings["scheduler"] == "EulerDiscreteScheduler"


def test_half_precision_decodes_in_single_where_the_decoder_needs_it(tiny_sdxl_dir: Path) -> None:
    from ipa_app.engine.drawing import draw
    from ipa_app.models.loading import load_model

    entry = entry_from_folder(tiny_sdxl_dir, name="xl")
    half = load_model(entry, device="cpu", dtype=torch.float16, report=lambda *_: None)
    vae = half.pipelines["text_to_image"].vae
    precisions = []
    vae.decoder.conv_in.register_forward_pre_hook(lambda _, inputs: precisions.append(inputs[0].dtype))
    plan = make_plan(GenerateRequest(task="mix", prompt="a red cat"), entry)
    draw(half, [row(1)], plan=plan, on_step=lambda _: None)
    assert precisions == [torch.float32]
    assert vae.dtype == torch.float16
