"""The fine-grained projection: learned queries that attend to all patch tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import nn

from ipa_app.adapter.kinds import RESAMPLER_DIM_HEAD
from ipa_app.adapter.projection import ImageProjection

if TYPE_CHECKING:
    from torch import Tensor

    from ipa_app.adapter.shapes import ProjectionSizes


class PerceiverAttention(nn.Module):
    """Attention of the queries over the image's tokens and the queries themselves.

    Source: Flamingo, arXiv 2204.14198, appendix A.1.1 (keys and values from both, concatenated).
    """

    def __init__(self, *, dim: int, dim_head: int, heads: int) -> None:
        """Build it with random weights; dim is the width of both inputs and of the output."""
        super().__init__()
        inner_dim = dim_head * heads
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner_dim, bias=False)
        self.to_kv = nn.Linear(dim, inner_dim * 2, bias=False)
        self.to_out = nn.Linear(inner_dim, dim, bias=False)

    def forward(self, image_tokens: Tensor, latents: Tensor) -> Tensor:
        """Attend from latents (batch, queries, dim) to image_tokens (batch, sequence, dim)."""
        latents = self.norm2(latents)
        context = torch.cat([self.norm1(image_tokens), latents], dim=1)
        key, value = self.to_kv(context).chunk(2, dim=-1)
        query, key, value = (self._split_heads(x) for x in (self.to_q(latents), key, value))
        out = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(out.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        """(batch, length, heads * dim_head) to (batch, heads, length, dim_head)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def feed_forward(dim: int, *, mult: int = 4) -> nn.Sequential:
    """Build the second half of a block; positions 0, 1 and 3 hold weights, as in the published keys."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, dim * mult, bias=False),
        nn.GELU(),
        nn.Linear(dim * mult, dim, bias=False),
    )


class Resampler(ImageProjection):
    """A small transformer from any number of patch tokens to a fixed number of image tokens.

    Published: SD 1.5 `dim=768, heads=12`; SDXL `dim=1280, heads=20`; both depth 4 and 16 queries.

    Source: tencent-ailab/IP-Adapter, resampler.py, whose keys the attribute names follow.
    """

    kind = "plus"
    free_sizes = frozenset({"num_tokens", "depth", "heads", "dim"})

    def __init__(self, sizes: ProjectionSizes) -> None:
        super().__init__(sizes)
        dim = sizes.dim
        self.latents = nn.Parameter(torch.randn(1, sizes.num_tokens, dim) / dim**0.5)
        self.proj_in = nn.Linear(sizes.clip_dim, dim)
        self.proj_out = nn.Linear(dim, sizes.cross_attention_dim)
        self.norm_out = nn.LayerNorm(sizes.cross_attention_dim)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [PerceiverAttention(dim=dim, dim_head=RESAMPLER_DIM_HEAD, heads=sizes.heads), feed_forward(dim)]
            )
            for _ in range(sizes.depth)
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Resample (batch, sequence, clip_dim) to tokens (batch, num_tokens, cross_attention_dim)."""
        image_tokens = self.proj_in(hidden_states)
        latents = self.latents.expand(hidden_states.shape[0], -1, -1)
        for block in self.layers:
            attention, feed_forward_block = cast(nn.ModuleList, block)
            latents = attention(image_tokens, latents) + latents
            latents = feed_forward_block(latents) + latents
        return self.norm_out(self.proj_out(latents))
