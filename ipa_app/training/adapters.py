"""The adapter a run trains: a new one sized for the base model, or one trained before."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ipa_app.adapter.files import AdapterFile, build_adapter, read_adapter
from ipa_app.adapter.fitting import check_encoder
from ipa_app.adapter.ip_adapter import PROJECTIONS, IPAdapter
from ipa_app.adapter.kinds import RESAMPLER_DIM_HEAD
from ipa_app.errors import UserError
from ipa_app.options import options
from ipa_app.training.components import Components
from ipa_app.training.config import TRAINED_KINDS, TrainConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ResamplerShape:
    """Size of a fine-grained adapter's projection.

    Attributes:
        heads: attention heads, of 64 channels each.
        dim: inner width.
    """

    heads: int
    dim: int


PUBLISHED_SHAPES = {
    768: ResamplerShape(heads=12, dim=768),
    2048: ResamplerShape(heads=20, dim=1280),
}
"""By width of the base model's text embeddings. Source: tencent-ailab/IP-Adapter, ip-adapter-plus_sd15, _sdxl_vit-h."""


def new_adapter(config: TrainConfig, base: Components) -> IPAdapter:
    """Build the adapter a run starts from: a published one, or a new one with the UNet's K/V and a random projection.

    Raises:
        UserError: the published file does not fit the base model, or is of another kind.
    """
    if config.pretrained is not None:
        return adapter_of(read_pretrained(config.pretrained, config), base)
    shape = resampler_shape(config, base)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return IPAdapter.for_unet(
            base.unet,
            kind=config.adapter,
            clip_dim=base.clip_dim(config.adapter),
            num_tokens=config.num_tokens or None,
            depth=config.resampler_depth,
            heads=shape.heads,
            dim=shape.dim,
        )


def read_pretrained(path: Path, config: TrainConfig) -> AdapterFile:
    """Read the adapter file that training is to start from.

    Raises:
        UserError: there is none, it is damaged, or its kind or size differs from what is to be trained.
    """
    file = read_adapter(path)
    if file.kind not in TRAINED_KINDS:
        raise UserError.plain(
            f"{path} is a {file.kind} adapter, which cannot be trained here: please start from one of type "
            f"{' or '.join(TRAINED_KINDS)}."
        )
    if file.kind != config.adapter:
        raise UserError.plain(f"{path} is a {file.kind} adapter; train it with --adapter {file.kind}.")
    given = {"num_tokens": file.num_tokens}
    if "heads" in PROJECTIONS[file.kind].free_sizes:
        shape = shape_of(file.tensors)
        depth = len({name.split(".")[2] for name in file.tensors if name.startswith("image_proj.layers.")})
        given |= {"resampler_depth": depth, "resampler_heads": shape.heads, "resampler_dim": shape.dim}
    for name, value in given.items():
        if getattr(config, name) not in (options(TrainConfig)[name].default, value):  # the default makes no demand
            raise UserError.plain(f"{path} has {name} {value}, not {getattr(config, name)}; leave that setting out.")
    return file


def adapter_of(file: AdapterFile, base: Components) -> IPAdapter:
    """Build the adapter of a file in float32, whatever the precision of the base model.

    Raises:
        UserError: it does not fit the base model.
    """
    check_encoder(file, base.image_encoder.config)
    adapter = build_adapter(file, base.unet).float()
    adapter.load_state_dict(dict(file.tensors))  # again, as a base model in bf16 has rounded them
    return adapter


def resampler_shape(config: TrainConfig, base: Components) -> ResamplerShape:
    """Choose the size of a new Resampler: as configured, else to suit the base model.

    That is the size of the model's own fine-grained adapter; else the published size for text embeddings of this width;
    else one as wide as the text embeddings.
    """
    usual = _own_shape(base) or PUBLISHED_SHAPES.get(base.cross_attention_dim) or _shape_for(base.cross_attention_dim)
    if not (config.resampler_heads or config.resampler_dim):
        return usual
    heads = config.resampler_heads or usual.heads
    dim = config.resampler_dim or heads * RESAMPLER_DIM_HEAD
    return ResamplerShape(heads=heads, dim=dim)


def _own_shape(base: Components) -> ResamplerShape | None:
    if base.fine_adapter is None:
        return None
    try:
        return shape_of(read_adapter(base.fine_adapter).tensors)
    except UserError as error:
        logger.warning("The size of the base model's own adapter is not taken over: %s", error)
        return None


def shape_of(tensors: Mapping[str, Tensor]) -> ResamplerShape:
    """Return the size of a fine-grained adapter's Resampler from its tensors in the published flat layout."""
    heads = max(1, len(tensors["image_proj.layers.0.0.to_q.weight"]) // RESAMPLER_DIM_HEAD)
    return ResamplerShape(heads=heads, dim=tensors["image_proj.latents"].shape[-1])


def _shape_for(cross_attention_dim: int) -> ResamplerShape:
    heads = max(1, cross_attention_dim // RESAMPLER_DIM_HEAD)
    return ResamplerShape(heads=heads, dim=heads * RESAMPLER_DIM_HEAD)
