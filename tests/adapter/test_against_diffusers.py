"""With the same weights, diffusers' IP-Adapter and ours draw the same pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from ipa_app.adapter import ImagePromptBatch, IPAdapter, encode_image, save_adapter
from tests.adapter.conftest import new_adapter, random_pixels
from tests.adapter_files import nested
from tests.tiny_models import CLIP_HIDDEN, CLIP_PROJECTION, tiny_image_processor, tiny_sdxl_unet, tiny_unet

MakePipeline = Callable[[UNet2DConditionModel], StableDiffusionPipeline]
KINDS: list[str] = ["base", "plus", "full"]


def reference_picture() -> Image.Image:
    noise = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(5))
    return Image.fromarray((noise * 255).round().byte().numpy())


def draw(pipeline: StableDiffusionPipeline, guidance_scale: float, **kwargs: Any) -> Tensor:
    drawn: Any = pipeline(
        "a cat with a hat",
        negative_prompt="red" if guidance_scale > 1 else None,
        num_inference_steps=2,
        guidance_scale=guidance_scale,
        num_images_per_prompt=2,
        generator=torch.Generator().manual_seed(1),
        output_type="latent",
        **kwargs,
    )
    return drawn.images


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_whole_pipeline_draws_the_same(
    kind: str,
    guidance_scale: float,
    suffix: str,
    tmp_path: Path,
    make_pipeline: MakePipeline,
    unet: UNet2DConditionModel,
    adapters: dict[str, IPAdapter],
    tower: CLIPVisionModelWithProjection,
) -> None:
    adapter = adapters[kind]
    save_adapter(adapter, tmp_path / f"adapter{suffix}")
    theirs = make_pipeline(tiny_unet())
    theirs.load_ip_adapter(str(tmp_path), subfolder="", weight_name=f"adapter{suffix}", image_encoder_folder=None)
    theirs.set_ip_adapter_scale(0.6)
    expected = draw(theirs, guidance_scale, ip_adapter_image=reference_picture())

    pixels = tiny_image_processor()(reference_picture(), return_tensors="pt").pixel_values
    prompt = adapter.image_prompt(*encode_image(tower, pixels, kind), scale=0.6)
    batch = ImagePromptBatch.stack([[prompt], [prompt]], guidance=guidance_scale > 1, steps=2)
    ours = make_pipeline(unet)
    drawn = draw(ours, guidance_scale, cross_attention_kwargs={"image_prompt": batch})

    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-4)
    assert (drawn - draw(ours, guidance_scale)).abs().max() > 1e-2


@torch.no_grad()
def test_two_references_draw_the_same(
    make_pipeline: MakePipeline,
    unet: UNet2DConditionModel,
    adapters: dict[str, IPAdapter],
    tower: CLIPVisionModelWithProjection,
) -> None:
    """With several references of one adapter, diffusers concatenates their tokens, and so does image_prompt."""
    cond, uncond = encode_image(tower, random_pixels(3, 2), "base")
    theirs = make_pipeline(tiny_unet())
    theirs.load_ip_adapter(
        nested(adapters["base"].state_dict()), subfolder="", weight_name="", image_encoder_folder=None
    )
    embeds = torch.stack([uncond, cond])
    expected = draw(theirs, 5.0, ip_adapter_image_embeds=[embeds])

    prompt = adapters["base"].image_prompt(cond, uncond)
    batch = ImagePromptBatch.stack([[prompt], [prompt]], guidance=True, steps=2)
    drawn = draw(make_pipeline(unet), 5.0, cross_attention_kwargs={"image_prompt": batch})
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_negative_picture_draws_the_same(
    make_pipeline: MakePipeline,
    unet: UNet2DConditionModel,
    adapters: dict[str, IPAdapter],
    tower: CLIPVisionModelWithProjection,
) -> None:
    """The first half of the embeddings that diffusers takes belongs to the negative image."""
    (cond, uncond), (away, _) = (encode_image(tower, random_pixels(seed), "base") for seed in (3, 4))
    theirs = make_pipeline(tiny_unet())
    theirs.load_ip_adapter(
        nested(adapters["base"].state_dict()), subfolder="", weight_name="", image_encoder_folder=None
    )
    expected = draw(theirs, 5.0, ip_adapter_image_embeds=[torch.stack([away, cond])])

    plain = adapters["base"].image_prompt(cond, uncond)
    prompt = plain.against(adapters["base"].image_prompt(away, uncond))
    ours = make_pipeline(unet)
    drawn, without = (
        draw(
            ours,
            5.0,
            cross_attention_kwargs={"image_prompt": ImagePromptBatch.stack([[each]] * 2, guidance=True, steps=2)},
        )
        for each in (prompt, plain)
    )
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-4)
    assert (drawn - without).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_sdxl_shaped_unet_predicts_the_same(kind: str, sdxl_unet: UNet2DConditionModel) -> None:
    adapter = new_adapter(sdxl_unet, kind)
    assert_same_prediction(adapter, ours=sdxl_unet, theirs=tiny_sdxl_unet(), kind=kind)


@torch.no_grad()
def test_a_full_face_adapter_predicts_the_same(unet: UNet2DConditionModel, adapters: dict[str, IPAdapter]) -> None:
    assert_same_prediction(adapters["full"], ours=unet, theirs=tiny_unet(), kind="full")


def assert_same_prediction(
    adapter: IPAdapter, *, ours: UNet2DConditionModel, theirs: UNet2DConditionModel, kind: str
) -> None:
    """Check that both UNets predict the same in one step for two images with guidance."""
    features = torch.randn(2, CLIP_PROJECTION) if kind == "base" else torch.randn(2, 17, CLIP_HIDDEN)
    cross_attention_dim = ours.config.cross_attention_dim
    latents, text = torch.randn(4, 4, 8, 8), torch.randn(4, 7, cross_attention_dim)
    conditions = {"text_embeds": torch.randn(4, 32), "time_ids": torch.rand(4, 6) * 100}

    theirs._load_ip_adapter_weights([nested(adapter.state_dict())])
    for processor in theirs.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.7]
    embeds = torch.cat([torch.zeros_like(features), features])[:, None]
    expected = theirs(latents, 500, text, added_cond_kwargs=conditions | {"image_embeds": [embeds]}).sample

    rows = [
        [adapter.image_prompt(features[i : i + 1], torch.zeros_like(features[i : i + 1]), scale=0.7)] for i in range(2)
    ]
    batch = ImagePromptBatch.stack(rows, guidance=True, steps=1)
    predicted = ours(
        latents, 500, text, added_cond_kwargs=conditions, cross_attention_kwargs={"image_prompt": batch}
    ).sample
    torch.testing.assert_close(predicted, expected, rtol=0, atol=1e-4)
