"""From CLIP image features to image tokens: the two simple projections.

The third, with learned queries, is :class:`ipa_app.adapter.resampler.Resampler`. Attribute names are
the keys of published files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from ipa_app.adapter.kinds import AdapterKind


class ImageProjModel(nn.Module):
    """The base projection: one pooled embedding becomes a few tokens.

    Source: "IP-Adapter", arXiv 2308.06721, section 3.2.1: "a linear layer and a Layer Normalization".
    """

    kind: ClassVar[AdapterKind] = "base"

    def __init__(self, *, clip_dim: int, cross_attention_dim: int, num_tokens: int = 4) -> None:
        """Make one with random weights."""
        super().__init__()
        self.clip_dim = clip_dim
        self.cross_attention_dim = cross_attention_dim
        self.num_tokens = num_tokens
        self.proj = nn.Linear(clip_dim, num_tokens * cross_attention_dim)
        self.norm = nn.LayerNorm(cross_attention_dim)

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Project pooled embeddings (batch, clip_dim) to tokens (batch, num_tokens, cross_attention_dim)."""
        tokens = self.proj(image_embeds).unflatten(-1, (self.num_tokens, self.cross_attention_dim))
        return self.norm(tokens)


class MLPProjModel(nn.Module):
    """The full-face projection: every token of the vision tower becomes one image token.

    Source: tencent-ailab/IP-Adapter, ip_adapter.py ``MLPProjModel``.
    """

    kind: ClassVar[AdapterKind] = "full"

    def __init__(self, *, clip_dim: int, cross_attention_dim: int, num_tokens: int = 257) -> None:
        """Make one with random weights; num_tokens is what the tower gives (ViT-H/14 at 224 px: 256 + 1)."""
        super().__init__()
        self.clip_dim = clip_dim
        self.cross_attention_dim = cross_attention_dim
        self.num_tokens = num_tokens
        self.proj = nn.Sequential(
            nn.Linear(clip_dim, clip_dim),
            nn.GELU(),
            nn.Linear(clip_dim, cross_attention_dim),
            nn.LayerNorm(cross_attention_dim),
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Project hidden states (batch, sequence, clip_dim) to tokens (batch, sequence, cross_attention_dim)."""
        return self.proj(hidden_states)
