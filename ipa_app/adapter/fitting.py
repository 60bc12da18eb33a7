"""Checks, by size, that an adapter fits a base model and an image encoder. Errors name both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ipa_app.adapter.kinds import KINDS, VisionWidths
from ipa_app.adapter.layers import AttentionLayer
from ipa_app.adapter.layout import AdapterLayout
from ipa_app.errors import UserError
from ipa_app.messages import Message

if TYPE_CHECKING:
    from ipa_app.adapter.ip_adapter import IPAdapter

_BASE_MODELS = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    2048: "SDXL",
    4096: "FLUX or Stable Diffusion 3",
}


def check_base(file: AdapterLayout, layers: Sequence[AttentionLayer]) -> None:
    """Check that a file's layers are those of a base model.

    Raises:
        UserError: they are not; the message names both sides.
    """
    wanted = [(layer.index, layer.hidden_size, layer.cross_attention_dim) for layer in layers]
    given = [(layer.index, layer.hidden_size, layer.cross_attention_dim) for layer in file.layers]
    if given == wanted:
        return
    made_for, model = _describe_base(file.layers), _describe_base(layers)
    if made_for != model:
        raise UserError("adapter.other_base", file=file.path.name, base=made_for, model=model)
    theirs, ours = next((a, b) for a, b in zip(given, wanted, strict=True) if a != b)
    raise UserError(
        "adapter.other_layers",
        file=file.path.name,
        theirs=theirs[0],
        their_width=theirs[1],
        ours=ours[0],
        our_width=ours[1],
    )


def check_encoder(adapter: IPAdapter | AdapterLayout, tower: VisionWidths) -> None:
    """Check that an image encoder's features have the width that an adapter takes.

    Args:
        adapter: the adapter, or the layout of its file.
        tower: the encoder's configuration.

    Raises:
        UserError: they do not; the message names both sides.
    """
    features = KINDS[adapter.kind].features
    given = features.width(tower)
    if given != adapter.clip_dim:
        what = adapter.path.name if isinstance(adapter, AdapterLayout) else Message("adapter.this", kind=adapter.kind)
        raise UserError(
            "adapter.other_encoder",
            adapter=what,
            features=features.described,
            wanted=_named(adapter.clip_dim, features.networks),
            given=_named(given, features.networks),
        )


def base_name(cross_attention_dim: object) -> Message:
    """Return the name of the family of base models whose text tokens have this width."""
    known = isinstance(cross_attention_dim, int) and cross_attention_dim in _BASE_MODELS
    return Message("base.named", name=_BASE_MODELS[cross_attention_dim]) if known else Message("base.own")


def _describe_base(layers: Sequence[AttentionLayer]) -> Message:
    width = layers[0].cross_attention_dim
    return Message("base.described", base=base_name(width), layers=len(layers), width=width)


def _named(width: int, networks: Mapping[int, str]) -> Message:
    if width in networks:
        return Message("adapter.width_of", width=width, network=networks[width])
    return Message("adapter.width", width=width)
