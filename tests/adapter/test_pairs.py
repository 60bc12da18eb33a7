"""Every pair of a published adapter with a base model and an image encoder: it fits, or both sides are named.

All at published sizes, without memory for the weights.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPVisionConfig

from ipa_app.adapter import AdapterFile, IPAdapter, attention_layers, check_base, check_encoder
from ipa_app.adapter.files import build_adapter
from ipa_app.adapter.header import header_of
from ipa_app.adapter.layout import file_layers
from ipa_app.errors import UserError
from tests.adapter.test_files import SDXL

ENCODERS = {
    "ViT-H": CLIPVisionConfig(hidden_size=1280, projection_dim=1024, num_attention_heads=16),
    "bigG": CLIPVisionConfig(hidden_size=1664, projection_dim=1280, num_attention_heads=16),
    "ViT-L": CLIPVisionConfig(hidden_size=1024, projection_dim=768, num_attention_heads=16),
}
BASES = {"sd15": "Stable Diffusion 1.x (16 cross", "sd2": "Stable Diffusion 2.x (16 cross", "sdxl": "SDXL (70 cross"}
# Published file: its base, kind, encoder, and the sizes that follow from them.
ADAPTERS = {
    "ip-adapter_sd15": ("sd15", "base", "ViT-H", {"clip_dim": 1024}),
    "ip-adapter_sd15_vit-G": ("sd15", "base", "bigG", {"clip_dim": 1280}),
    "ip-adapter-plus_sd15": ("sd15", "plus", "ViT-H", {"clip_dim": 1280}),
    "ip-adapter-full-face_sd15": ("sd15", "full", "ViT-H", {"clip_dim": 1280}),
    "ip-adapter_sdxl": ("sdxl", "base", "bigG", {"clip_dim": 1280}),
    "ip-adapter_sdxl_vit-h": ("sdxl", "base", "ViT-H", {"clip_dim": 1024}),
    "ip-adapter-plus_sdxl_vit-h": ("sdxl", "plus", "ViT-H", {"clip_dim": 1280, "heads": 20}),
}


@pytest.fixture(scope="module")
def unets() -> dict[str, UNet2DConditionModel]:
    with torch.device("meta"):
        sizes = {"sd15": {"cross_attention_dim": 768}, "sd2": {"cross_attention_dim": 1024}, "sdxl": SDXL}
        return {name: UNet2DConditionModel(**size) for name, size in sizes.items()}


@pytest.fixture(scope="module")
def files(unets: dict[str, UNet2DConditionModel]) -> dict[str, AdapterFile]:
    """What `read_adapter` gives for each published file."""
    found = {}
    for name, (base, kind, _, sizes) in ADAPTERS.items():
        adapter = IPAdapter.for_unet(unets[base], kind=kind, **sizes)
        tensors = adapter.state_dict()
        found[name] = AdapterFile(
            path=Path(f"{name}.safetensors"),
            kind=adapter.kind,
            layers=file_layers(header_of(tensors)),
            clip_dim=adapter.clip_dim,
            numbers=sum(tensor.numel() for tensor in tensors.values()),
            num_tokens=adapter.num_tokens,
            tensors=tensors,
        )
    return found


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_fits_its_own_base_and_no_other(
    unets: dict[str, UNet2DConditionModel], files: dict[str, AdapterFile], name: str, base: str
) -> None:
    own = ADAPTERS[name][0]
    if base == own:
        check_base(files[name], attention_layers(unets[base]))
        return
    processors = dict(unets[base].attn_processors)
    with pytest.raises(UserError) as refusal:
        build_adapter(files[name], unets[base])
    message = str(refusal.value)
    assert message.startswith(f"{name}.safetensors was made for {BASES[own]}")
    assert f"but this base model is {BASES[base]}" in message
    assert unets[base].attn_processors == processors


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_fits_its_own_encoder_and_no_other(files: dict[str, AdapterFile], name: str, encoder: str) -> None:
    own = ADAPTERS[name][2]
    if encoder == own:
        check_encoder(files[name], ENCODERS[encoder])
        return
    with pytest.raises(UserError) as refusal:
        check_encoder(files[name], ENCODERS[encoder])
    wanted, _, given = str(refusal.value).partition("but this model's is")
    assert wanted.startswith(f"{name}.safetensors needs an image encoder")
    assert own in wanted
    assert encoder in given
