"""Projections from CLIP image features to image tokens: the common base class and the two simple ones.

The third, with learned queries, is `ipa_app.adapter.resampler.Resampler`. Attribute names are
the keys of published files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from ipa_app.adapter.shapes import ProjectionSizes


class ImageProjection(nn.Module):
    """Turns image features into image tokens (batch, num_tokens, cross_attention_dim).

    Attributes:
        kind: the name of its kind in `ipa_app.adapter.kinds.KINDS`, which defines the features it takes.
        free_sizes: the `ProjectionSizes` fields that may be chosen for a new one; the models around it set the rest.
    """

    kind: ClassVar[str]
    free_sizes: ClassVar[frozenset[str]] = frozenset({"num_tokens"})

    def __init__(self, sizes: ProjectionSizes) -> None:
        """Build it with random weights."""
        super().__init__()
        self.clip_dim = sizes.clip_dim
        self.cross_attention_dim = sizes.cross_attention_dim
        self.num_tokens = sizes.num_tokens


class ImageProjModel(ImageProjection):
    """The base projection: one pooled embedding becomes a few tokens.

    Source: "IP-Adapter", arXiv 2308.06721, section 3.2.1: "a linear layer and a Layer Normalization".
    """

    kind = "base"

    def __init__(self, sizes: ProjectionSizes) -> None:
        super().__init__(sizes)
        self.proj = nn.Linear(sizes.clip_dim, sizes.num_tokens * sizes.cross_attention_dim)
        self.norm = nn.LayerNorm(sizes.cross_attention_dim)

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Project pooled embeddings (batch, clip_dim) to tokens (batch, num_tokens, cross_attention_dim)."""
        tokens = self.proj(image_embeds).unflatten(-1, (self.num_tokens, self.cross_attention_dim))
        return self.norm(tokens)


class MLPProjModel(ImageProjection):
    """The full-face projection: each token of the image encoder becomes one image token.

    Source: tencent-ailab/IP-Adapter, ip_adapter.py `MLPProjModel`.
    """

    kind = "full"

    def __init__(self, sizes: ProjectionSizes) -> None:
        """Build it with random weights; num_tokens is that of the encoder (ViT-H/14 at 224 px: 256 + 1)."""
        super().__init__(sizes)
        self.proj = nn.Sequential(
            nn.Linear(sizes.clip_dim, sizes.clip_dim),
            nn.GELU(),
            nn.Linear(sizes.clip_dim, sizes.cross_attention_dim),
            nn.LayerNorm(sizes.cross_attention_dim),
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Project hidden states (batch, sequence, clip_dim) to tokens (batch, sequence, cross_attention_dim)."""
        return self.proj(hidden_states)
