"""Small real models for the adapter's tests, and helpers to run them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from ipa_app.adapter import ImagePrompt, IPAdapter, encode_image, install_processors
from tests.tiny_models import (
    CLIP_HIDDEN,
    CLIP_PROJECTION,
    tiny_clip_vision,
    tiny_image_processor,
    tiny_scheduler,
    tiny_sdxl_unet,
    tiny_text_encoder,
    tiny_tokenizer,
    tiny_unet,
    tiny_vae,
)

MakePrompt = Callable[..., ImagePrompt]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def plain_unet() -> UNet2DConditionModel:
    """Return an SD-shaped UNet with diffusers' own processors."""
    return tiny_unet()


@pytest.fixture(scope="session")
def unet() -> UNet2DConditionModel:
    """Return the same UNet with our processors."""
    model = tiny_unet()
    install_processors(model)
    return model


@pytest.fixture(scope="session")
def sdxl_unet() -> UNet2DConditionModel:
    """Return an SDXL-shaped UNet with our processors."""
    model = tiny_sdxl_unet()
    install_processors(model)
    return model


@pytest.fixture(scope="session")
def tower() -> CLIPVisionModelWithProjection:
    return tiny_clip_vision()


@pytest.fixture(scope="session")
def adapters(unet: UNet2DConditionModel) -> dict[str, IPAdapter]:
    """Return an adapter of each kind for `unet`."""
    return {kind: new_adapter(unet, kind) for kind in ("base", "plus", "full")}


@pytest.fixture
def prompt(adapters: dict[str, IPAdapter], tower: CLIPVisionModelWithProjection) -> MakePrompt:
    """Return a function that makes an image prompt of noise images: `prompt("base", seed=1, pictures=2, scale=0.5)`."""

    @torch.no_grad()
    def make(kind: str, *, seed: int = 0, pictures: int = 1, scale: float = 1.0) -> ImagePrompt:
        cond, uncond = encode_image(tower, random_pixels(seed, pictures), kind)
        return adapters[kind].image_prompt(cond, uncond, scale=scale)

    return make


@pytest.fixture(scope="session")
def make_pipeline(tower: CLIPVisionModelWithProjection) -> Callable[[UNet2DConditionModel], StableDiffusionPipeline]:
    """Return a function that builds a pipeline around a UNet."""

    def make(model: UNet2DConditionModel) -> StableDiffusionPipeline:
        tokenizer = tiny_tokenizer()
        pipeline = StableDiffusionPipeline(
            unet=model,
            vae=tiny_vae(),
            text_encoder=tiny_text_encoder(tokenizer),
            tokenizer=tokenizer,
            scheduler=tiny_scheduler(),
            safety_checker=None,
            feature_extractor=tiny_image_processor(),
            image_encoder=tower,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return make


def new_adapter(model: UNet2DConditionModel, kind: str, *, seed: int = 0, **sizes: int) -> IPAdapter:
    """Build an adapter with random weights, keys and values included, large enough to have a visible effect."""
    torch.manual_seed(seed)
    clip_dim = CLIP_PROJECTION if kind == "base" else CLIP_HIDDEN
    adapter = IPAdapter.for_unet(model, kind=kind, clip_dim=clip_dim, heads=2, **sizes).eval()
    with torch.no_grad():
        for parameter in adapter.ip_adapter.parameters():
            parameter.normal_(std=0.3)
        for parameter in adapter.image_proj.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return adapter


def random_pixels(seed: int, pictures: int = 1) -> Tensor:
    """Return random normalised images (pictures, 3, 32, 32)."""
    return torch.randn(pictures, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
