"""The full recipe builds exactly the shipped networks: every tensor of every file, by name and shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import CLIPVisionModelWithProjection

from bench.judging import JUDGE
from ipa_app.models.catalog import BUNDLED
from ipa_app.pose.toy_reader import ToyReader
from toybox.judge import Judge
from toybox.recipe.attention_distillation import new_adapter
from toybox.recipe.autoencoder import new_vae
from toybox.recipe.denoiser import new_controlnet, new_unet
from toybox.recipe.few_step.inpainting import INPAINTING
from toybox.recipe.few_step.student import LORA_FILE, add_lora, lora_tensors
from toybox.recipe.few_step.tiny_autoencoder import FOLDER as TINY_VAE
from toybox.recipe.few_step.tiny_autoencoder import new_tiny_vae
from toybox.recipe.pose_reader import FILE as POSE_READER
from toybox.recipe.settings import FULL
from toybox.recipe.tokenizer import load_tokenizer
from toybox.recipe.towers import new_clip

Shapes = dict[str, tuple[int, ...]]
DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"
FILES = [path for folder in (BUNDLED, JUDGE) for path in sorted(folder.rglob("*.safetensors"))]


@pytest.fixture(scope="module")
def built() -> dict[str, Shapes]:
    """Return the tensor shapes that the recipe would write, by file."""
    tokenizer = load_tokenizer(BUNDLED)
    with torch.device("meta"):
        unet, clip = new_unet(FULL), new_clip(FULL, tokenizer)
        # The vision tower has a class of its own.
        vision = CLIPVisionModelWithProjection(clip.config.vision_config)
        parts: dict[str, nn.Module] = {
            f"vae/{DIFFUSERS_FILE}": new_vae(FULL),
            f"unet/{DIFFUSERS_FILE}": unet,
            f"controlnet/{DIFFUSERS_FILE}": new_controlnet(FULL, unet),
            f"{INPAINTING}/{DIFFUSERS_FILE}": new_controlnet(FULL, unet),
            "image_encoder/model.safetensors": vision,
            "adapters/ip-adapter_toybox.safetensors": new_adapter("base", FULL, unet, vision),
            "adapters/ip-adapter-plus_toybox.safetensors": new_adapter("plus", FULL, unet, vision),
            POSE_READER: ToyReader(),
            f"{TINY_VAE}/{DIFFUSERS_FILE}": new_tiny_vae(len(FULL.vae_channels)),
            "judge/model.safetensors": Judge(FULL.size),
        }
        shapes = {name: _shapes(part.state_dict()) for name, part in parts.items()}
        # Stable Diffusion's text encoder is the text tower without its projection.
        text = {name: each for name, each in clip.state_dict().items() if name.startswith("text_model.")}
        shapes["text_encoder/model.safetensors"] = _shapes(text)
        shapes[LORA_FILE] = _shapes(lora_tensors(add_lora(unet, FULL.lora_rank)))
    return shapes


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_recipe_builds_what_is_shipped(path: Path, built: dict[str, Shapes]) -> None:
    name = f"judge/{path.name}" if path.parent == JUDGE else path.relative_to(BUNDLED).as_posix()
    with safe_open(path, "pt") as file:
        shipped = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - not a mapping
    assert built[name] == shipped


def _shapes(tensors: dict[str, torch.Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
