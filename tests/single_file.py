"""The original single-file layout of Stable Diffusion 1.x and SDXL, written from a folder in diffusers layout.

The names are those of the original code, CompVis/stable-diffusion and Stability-AI/generative-models; SDXL's second
text encoder has those of mlfoundations/open_clip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file
from torch import Tensor

UNET_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm": "ln_",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


CONTROLNET_OUTSIDE = {
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
    "controlnet_cond_embedding.conv_out": "input_hint_block.14",
    "controlnet_mid_block": "middle_block_out.0",
}
TextLayout = Literal["usual", "old", "open_clip"]


def write_single_file(
    folder: Path,
    path: Path,
    *,
    layers_per_block: int = 1,
    text_layout: TextLayout = "usual",
    more: Mapping[str, Tensor] = MappingProxyType({}),
    notes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the UNet, VAE and text encoder of a folder into one file.

    Args:
        folder: Stable Diffusion 1.x or SDXL in diffusers layout, safetensors.
        path: of the file.
        layers_per_block: of its UNet.
        text_layout: naming of the first text encoder's tensors: as in 2023, as before that (without "text_model."), or
            as in Stable Diffusion 2.
        more: tensors to put into the file beside the model's, such as `v_pred`.
        notes: the file's safetensors metadata.
    """
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder" / "model.safetensors")
    tensors: dict[str, Tensor] = {}
    attentive_blocks = {key.split(".")[1] for key in unet if key.startswith("up_blocks") and ".attentions." in key}
    for key, tensor in unet.items():
        tensors[f"model.diffusion_model.{_unet_key(key, layers_per_block, attentive_blocks)}"] = tensor
    up_blocks = 1 + max(int(key.split(".")[2]) for key in vae if key.startswith("decoder.up_blocks"))
    for key, tensor in vae.items():
        is_attention = "attentions" in key and key.endswith("weight") and tensor.ndim == 2
        name = f"first_stage_model.{_vae_key(key, up_blocks)}"
        tensors[name] = tensor[:, :, None, None].contiguous() if is_attention else tensor
    is_xl = (folder / "text_encoder_2").is_dir()
    prefix = "conditioner.embedders.0" if is_xl else "cond_stage_model"
    if text_layout == "open_clip":
        tensors |= {f"{prefix}.model.{key}": tensor for key, tensor in _open_clip(text).items()}
    else:
        wrapper = "text_model." if text_layout == "usual" else ""
        for key, tensor in text.items():
            tensors[f"{prefix}.transformer.{wrapper}{key.removeprefix('text_model.')}"] = tensor
    if is_xl:
        second = load_file(folder / "text_encoder_2" / "model.safetensors")
        tensors |= {f"conditioner.embedders.1.model.{key}": tensor for key, tensor in _open_clip(second).items()}
    save_file({**tensors, **more}, path, metadata=dict(notes))


def original_controlnet(controlnet: ControlNetModel) -> dict[str, Tensor]:
    """Return a ControlNet's state dict under its authors' original names."""
    tensors = {}
    for key, tensor in controlnet.state_dict().items():
        layer, _, rest = key.rpartition(".")
        if match := re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d)", layer):
            name = f"input_hint_block.{2 * int(match[1]) + 2}.{rest}"
        elif match := re.fullmatch(r"controlnet_down_blocks\.(\d+)", layer):
            name = f"zero_convs.{match[1]}.0.{rest}"
        elif layer in CONTROLNET_OUTSIDE:
            name = f"{CONTROLNET_OUTSIDE[layer]}.{rest}"
        else:
            name = _unet_key(key, controlnet.config["layers_per_block"], set())
        tensors[f"control_model.{name}"] = tensor.contiguous()
    return tensors


def _open_clip(text: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a text encoder with projection under open_clip's names: queries, keys and values are one matrix."""
    text = {key.removeprefix("text_model."): tensor for key, tensor in text.items()}
    projection = text.pop("text_projection.weight", None)
    tensors = {} if projection is None else {"text_projection": projection.T.contiguous()}
    for key in [key for key in text if ".q_proj." in key]:
        parts = [text.pop(key.replace("q_proj", name)) for name in ("q_proj", "k_proj", "v_proj")]
        text[key.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    for key, tensor in text.items():
        for ours, theirs in OPEN_CLIP.items():
            key = key.replace(ours, theirs)
        tensors[key] = tensor
    return tensors


def _unet_key(key: str, layers_per_block: int, attentive_blocks: set[str]) -> str:
    for ours, theirs in UNET_OUTSIDE.items():
        if key.startswith(f"{ours}."):
            return key.replace(ours, theirs, 1)
    per_block = layers_per_block + 1
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", key):
        place = 1 if match[1] == "attentions" else 2 * int(match[2])
        return f"middle_block.{place}.{_resnet_key(match[3]) if match[1] == 'resnets' else match[3]}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", key)
    assert match, key
    side, block, sort, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if sort == "downsamplers":
        return f"input_blocks.{per_block * (block + 1)}.0.{rest.replace('conv', 'op', 1)}"
    if sort == "upsamplers":
        return f"output_blocks.{per_block * (block + 1) - 1}.{2 if str(block) in attentive_blocks else 1}.{rest}"
    number = per_block * block + layer + (1 if side == "down" else 0)
    blocks = "input_blocks" if side == "down" else "output_blocks"
    return f"{blocks}.{number}.0.{_resnet_key(rest)}" if sort == "resnets" else f"{blocks}.{number}.1.{rest}"


def _resnet_key(key: str) -> str:
    name, _, rest = key.partition(".")
    return f"{UNET_RESNET[name]}.{rest}"


def _vae_key(key: str, up_blocks: int) -> str:
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", key)
    for sort, theirs in (("resnets.", "block."), ("upsamplers.0.", "upsample.")):
        pattern = rf"up_blocks\.(\d)\.{re.escape(sort)}"
        key = re.sub(pattern, lambda match, name=theirs: f"up.{up_blocks - 1 - int(match[1])}.{name}", key)
    if "mid_block.attentions.0." in key:
        key = key.replace("mid_block.attentions.0.", "mid.attn_1.")
        for ours, theirs in VAE_ATTENTION.items():
            key = key.replace(f".{ours}.", f".{theirs}.")
    return key
