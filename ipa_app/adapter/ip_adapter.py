"""The adapter itself: everything that is trained, kept apart from the base model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from ipa_app.adapter.image_prompt import ImagePrompt, KeyValue
from ipa_app.adapter.kinds import KINDS, RESAMPLER_DIM_HEAD
from ipa_app.adapter.layers import AttentionLayer, attention_layers, text_projections
from ipa_app.adapter.projection import ImageProjection, ImageProjModel, MLPProjModel
from ipa_app.adapter.resampler import Resampler
from ipa_app.adapter.shapes import ProjectionSizes
from ipa_app.errors import UserError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import Tensor

PROJECTIONS: Mapping[str, type[ImageProjection]] = MappingProxyType(
    {projection.kind: projection for projection in (ImageProjModel, Resampler, MLPProjModel)}
)
"""The projection networks by the name of their kind."""


class KeyValueProjection(nn.Module):
    """`W'_k` and `W'_v` of one cross-attention layer."""

    def __init__(self, *, cross_attention_dim: int, hidden_size: int) -> None:
        """Build it with random weights."""
        super().__init__()
        self.to_k_ip = nn.Linear(cross_attention_dim, hidden_size, bias=False)
        self.to_v_ip = nn.Linear(cross_attention_dim, hidden_size, bias=False)


class IPAdapter(nn.Module):
    """The projection to image tokens, and a key and value projection for each cross-attention layer.

    Its `state_dict()` has the published flat layout: `image_proj.*` and `ip_adapter.<n>.to_k_ip.weight`.
    It never changes a UNet; it makes `ImagePrompt` objects. All of it is differentiable.
    """

    def __init__(self, image_proj: ImageProjection, layers: Sequence[AttentionLayer]) -> None:
        """Build it with random key and value projections for these layers."""
        super().__init__()
        self.image_proj = image_proj
        self.layer_names: tuple[str, ...] = tuple(layer.name for layer in layers)
        self.ip_adapter = nn.ModuleDict(
            {
                str(layer.index): KeyValueProjection(
                    cross_attention_dim=layer.cross_attention_dim, hidden_size=layer.hidden_size
                )
                for layer in layers
            }
        )

    @classmethod
    def for_unet(
        cls,
        unet: UNet2DConditionModel,
        *,
        kind: str,
        clip_dim: int,
        num_tokens: int | None = None,
        depth: int = 4,
        dim_head: int = RESAMPLER_DIM_HEAD,
        heads: int = 12,
        dim: int | None = None,
    ) -> IPAdapter:
        """Build a new adapter for a base model, ready to be trained.

        The key and value projections start as copies of the UNet's own for text, in float32; the image projection is
        random.

        Args:
            unet: the base model; it is only read.
            kind: a name in `ipa_app.adapter.kinds.KINDS`: base, plus (Resampler) or full.
            clip_dim: width of the image encoder's features that this kind takes.
            num_tokens: image tokens per picture; by default as in the published adapters of this kind.
            depth: number of Resampler blocks; diffusers reads files with 4 only.
            dim_head: width of a Resampler head; the published layout allows 64 only.
            heads: number of attention heads of the Resampler.
            dim: width of the Resampler; by default `heads * dim_head`, as in the published ones.

        Raises:
            UserError: dim_head is not 64.
        """
        layers = attention_layers(unet)
        if dim_head != RESAMPLER_DIM_HEAD:
            raise UserError("adapter.wrong_dim_head", dim_head=RESAMPLER_DIM_HEAD)
        sizes = ProjectionSizes(
            clip_dim=clip_dim,
            cross_attention_dim=layers[0].cross_attention_dim,
            num_tokens=num_tokens or KINDS[kind].num_tokens,
            depth=depth,
            heads=heads,
            dim=dim or heads * dim_head,
        )
        with torch.device(unet.device):
            adapter = cls(PROJECTIONS[kind](sizes), layers)
        adapter._start_from_text(unet)
        return adapter

    @property
    def kind(self) -> str:
        """Name of its kind: which features it takes and how it projects them."""
        return self.image_proj.kind

    @property
    def num_tokens(self) -> int:
        """Image tokens per picture."""
        return self.image_proj.num_tokens

    @property
    def cross_attention_dim(self) -> int:
        """Width of its tokens, the same as that of the base model's text tokens."""
        return self.image_proj.cross_attention_dim

    @property
    def clip_dim(self) -> int:
        """Width of the image features that it takes."""
        return self.image_proj.clip_dim

    def tokens(self, features: Tensor) -> Tensor:
        """Project features to image tokens (batch, num_tokens, cross_attention_dim).

        Args:
            features: base (batch, clip_dim); plus and full (batch, sequence, clip_dim).
        """
        weight = next(self.image_proj.parameters())
        return self.image_proj(features.to(device=weight.device, dtype=weight.dtype))

    def image_prompt(
        self, features: Tensor, uncond_features: Tensor | None, *, scale: float | Mapping[str, float] = 1.0
    ) -> ImagePrompt:
        """Make the prompt of one picture, or of several reference pictures with all their tokens joined.

        Args:
            features: one row per reference; see `tokens`.
            uncond_features: the features of "no picture"; None where guidance is not used.
            scale: see `ImagePrompt`.
        """
        cond = self._keys_values(self.tokens(features).flatten(0, 1)[None])
        uncond = None
        if uncond_features is not None:
            uncond = self._keys_values(self.tokens(uncond_features).flatten(0, 1)[None])[0]
        return ImagePrompt(cond=cond[0], uncond=uncond, scale=scale)

    def image_prompts(self, features: Tensor, *, scale: float | Mapping[str, float] = 1.0) -> list[ImagePrompt]:
        """Make a prompt for each row of features, without an unconditional side, as a training batch needs."""
        return [ImagePrompt(cond=side, scale=scale) for side in self._keys_values(self.tokens(features))]

    @torch.no_grad()
    def _start_from_text(self, unet: UNet2DConditionModel) -> None:
        """Copy the UNet's own key and value projections for text."""
        for name, projection in self._projections():
            to_k, to_v = text_projections(unet, name)
            projection.to_k_ip.weight.copy_(to_k.weight)
            projection.to_v_ip.weight.copy_(to_v.weight)

    def _projections(self) -> Iterator[tuple[str, KeyValueProjection]]:
        """Iterate over the layers' names and projections."""
        projections = (cast(KeyValueProjection, projection) for projection in self.ip_adapter.values())
        return zip(self.layer_names, projections, strict=True)

    def _keys_values(self, tokens: Tensor) -> list[dict[str, KeyValue]]:
        """Project tokens (batch, tokens, cross_attention_dim) to keys and values, for each row by layer name."""
        rows: list[dict[str, KeyValue]] = [{} for _ in tokens]
        for name, projection in self._projections():
            keys, values = projection.to_k_ip(tokens), projection.to_v_ip(tokens)
            for row, key, value in zip(rows, keys.unbind(), values.unbind(), strict=True):
                row[name] = KeyValue(key, value)
        return rows
