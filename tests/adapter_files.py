"""Adapter files of published shapes that take no disk space, and a random adapter in every published file form."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from ipa_app.adapter import IPAdapter, attention_layers

Shapes = Mapping[str, tuple[int, ...]]

SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
UNETS = {"sd15": {"cross_attention_dim": 768}, "sd2": {"cross_attention_dim": 1024}, "sdxl": SDXL}
TOWERS = {
    "ViT-H": {"hidden_size": 1280, "projection_dim": 1024},
    "bigG": {"hidden_size": 1664, "projection_dim": 1280},
    "ViT-L": {"hidden_size": 1024, "projection_dim": 768},
}
# By published file: its base model, kind and image encoder, and the sizes that follow from them.
PUBLISHED = {
    "ip-adapter_sd15": ("sd15", "base", "ViT-H", {"clip_dim": 1024}),
    "ip-adapter_sd15_light": ("sd15", "base", "ViT-H", {"clip_dim": 1024}),
    "ip-adapter_sd15_light_v11": ("sd15", "base", "ViT-H", {"clip_dim": 1024}),
    "ip-adapter_sd15_vit-G": ("sd15", "base", "bigG", {"clip_dim": 1280}),
    "ip-adapter-plus_sd15": ("sd15", "plus", "ViT-H", {"clip_dim": 1280}),
    "ip-adapter-plus-face_sd15": ("sd15", "plus", "ViT-H", {"clip_dim": 1280}),
    "ip_plus_composition_sd15": ("sd15", "plus", "ViT-H", {"clip_dim": 1280}),
    "ip-adapter-full-face_sd15": ("sd15", "full", "ViT-H", {"clip_dim": 1280}),
    "ip-adapter_sdxl": ("sdxl", "base", "bigG", {"clip_dim": 1280}),
    "ip-adapter_sdxl_vit-h": ("sdxl", "base", "ViT-H", {"clip_dim": 1024}),
    "ip-adapter-plus_sdxl_vit-h": ("sdxl", "plus", "ViT-H", {"clip_dim": 1280, "heads": 20}),
    "ip-adapter-plus-face_sdxl_vit-h": ("sdxl", "plus", "ViT-H", {"clip_dim": 1280, "heads": 20}),
    # InstantID's adapter: it has the form of a fine-grained one, but takes a face embedding.
    "instantid": ("sdxl", "plus", "face recognition", {"clip_dim": 512, "heads": 20}),
    "an adapter for SD 2": ("sd2", "base", "ViT-H", {"clip_dim": 1024}),
}


@cache
def published_unet(name: str) -> UNet2DConditionModel:
    """Build a UNet of published size whose weights take no memory."""
    with torch.device("meta"):
        return UNet2DConditionModel(**UNETS[name])


@cache
def published_shapes(name: str) -> Shapes:
    """Return the keys and shapes of a published adapter file."""
    base, kind, _, sizes = PUBLISHED[name]
    adapter = IPAdapter.for_unet(published_unet(base), kind=kind, **sizes)
    return {key: tuple(tensor.shape) for key, tensor in adapter.state_dict().items()}


def safetensors_file(header: bytes, *, room: int = 0) -> bytes:
    """Return a safetensors file with any header; its tensors, `room` bytes of them, are zeros."""
    return len(header).to_bytes(8, "little") + header + bytes(room)


def write_shapes(path: Path, shapes: Shapes) -> Path:
    """Write a safetensors file of zeros only, as a sparse file that takes almost no disk space."""
    header, end = {}, 0
    for key, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(safetensors_file(text))
        file.truncate(file.tell() + end)
    return path


def write_model(folder: Path, base: str, *, tower: str | None = "ViT-H") -> Path:
    """Write what adapters must fit of a published model: the UNet's cross-attention layers, the tower's config."""
    shapes = {
        f"{layer.name.removesuffix('.processor')}.to_k.weight": (layer.hidden_size, layer.cross_attention_dim)
        for layer in attention_layers(published_unet(base))
    }
    write_shapes(folder / "unet" / "diffusion_pytorch_model.safetensors", shapes)
    if tower:
        (folder / "image_encoder").mkdir()
        (folder / "image_encoder" / "config.json").write_text(json.dumps(TOWERS[tower]))
    return folder


def prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors as the reference training script names them when run on several GPUs."""
    names = {"image_proj": "module.image_proj_model", "ip_adapter": "module.adapter_modules"}
    parts = {key: key.partition(".") for key in tensors}
    return {f"{names[part]}.{rest}": tensors[key] for key, (part, _, rest) in parts.items()}


def saved_by_accelerate(tensors: Mapping[str, Tensor], unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Return the state dict accelerate saves of all trained modules; of a tensor's two names it keeps the UNet's."""
    whole = {f"unet.{key}": tensor for key, tensor in unet.state_dict().items()}
    names = {str(layer.index): f"unet.{layer.name}" for layer in attention_layers(unet)}
    for key, tensor in tensors.items():
        part, _, rest = key.partition(".")
        number, _, last = rest.partition(".")
        whole[f"image_proj_model.{rest}" if part == "image_proj" else f"{names[number]}.{last}"] = tensor
    return whole


def nested(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Nest tensors as published `.bin` files do."""
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = tensor
    return parts


def write_adapter(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """Write an adapter in the format its suffix names: safetensors or PyTorch's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".bin":
        torch.save(nested(tensors), path)
    else:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path
