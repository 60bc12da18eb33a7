"""Without an image, or at scale 0, a pipeline is plain Stable Diffusion, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from ipa_app.adapter import ImagePromptBatch
from tests.adapter.conftest import MakePrompt
from tests.tiny_models import tiny_controlnet

MakePipeline = Callable[[UNet2DConditionModel], StableDiffusionPipeline]


@pytest.fixture(scope="module")
def controlnet(plain_unet: UNet2DConditionModel) -> ControlNetModel:
    return tiny_controlnet(plain_unet)


def draw(
    pipeline: StableDiffusionPipeline | StableDiffusionControlNetPipeline, batch: ImagePromptBatch | None = None
) -> Tensor:
    control = {"image": torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))}
    drawn: Any = pipeline(
        "a red cat",
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(1),
        output_type="pt",
        cross_attention_kwargs=None if batch is None else {"image_prompt": batch},
        **(control if isinstance(pipeline, StableDiffusionControlNetPipeline) else {}),
    )
    return drawn.images


@pytest.mark.parametrize("with_controlnet", [False, True])
@torch.no_grad()
def test_scale_0_and_no_reference_draw_plain_pictures(
    with_controlnet: bool,
    make_pipeline: MakePipeline,
    plain_unet: UNet2DConditionModel,
    unet: UNet2DConditionModel,
    controlnet: ControlNetModel,
    prompt: MakePrompt,
) -> None:
    stock, ours = make_pipeline(plain_unet), make_pipeline(unet)
    if with_controlnet:
        stock, ours = (
            StableDiffusionControlNetPipeline(**each.components, controlnet=controlnet, requires_safety_checker=False)
            for each in (stock, ours)
        )
        for each in (stock, ours):
            each.set_progress_bar_config(disable=True)
    plain = draw(stock)
    silent = [prompt("base", scale=0.0), prompt("plus", scale=0.0)]

    assert torch.equal(draw(ours), plain)
    assert torch.equal(draw(ours, ImagePromptBatch.stack([[]], guidance=True, steps=2)), plain)
    assert torch.equal(draw(ours, ImagePromptBatch.stack([silent], guidance=True, steps=2)), plain)
    heard = draw(ours, ImagePromptBatch.stack([[prompt("base")]], guidance=True, steps=2))
    assert not torch.equal(heard, plain)
    assert torch.equal(draw(ours), plain)  # the image prompt leaves no trace


@torch.no_grad()
def test_a_controlnet_sees_the_text_only(
    make_pipeline: MakePipeline, unet: UNet2DConditionModel, controlnet: ControlNetModel, prompt: MakePrompt
) -> None:
    pipeline = StableDiffusionControlNetPipeline(
        **make_pipeline(unet).components, controlnet=controlnet, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    seen: list[tuple[dict[str, object], Tensor]] = []
    handle = controlnet.register_forward_hook(
        lambda _module, _args, kwargs, out: seen.append((kwargs, out[1])), with_kwargs=True
    )
    try:
        draw(pipeline)
        draw(pipeline, ImagePromptBatch.stack([[prompt("base")]], guidance=True, steps=2))
    finally:
        handle.remove()
    (plain_inputs, plain_out), (inputs, out) = seen[0], seen[2]
    assert inputs.get("cross_attention_kwargs") is None
    assert torch.equal(inputs["encoder_hidden_states"], plain_inputs["encoder_hidden_states"])
    assert torch.equal(out, plain_out)
