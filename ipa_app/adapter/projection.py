"""Projections from CLIP image features to image tokens: the common base class and the two simple ones.

The third, with learned queries, is `ipa_app.adapter.resampler.Resampler`. Attribute names are
the keys of published files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from ipa_app.adapter.kinds import KINDS, RESAMPLER_DIM_HEAD
from ipa_app.adapter.layout import size

if TYPE_CHECKING:
    from torch import Tensor

    from ipa_app.adapter.header import Header
    from ipa_app.adapter.layout import AdapterLayout


@dataclass(frozen=True, kw_only=True)
class ProjectionSizes:
    """The sizes of a projection. The last three are for a Resampler only.

    Attributes:
        clip_dim: width of the image features that it takes.
        cross_attention_dim: width of the tokens that it makes.
        num_tokens: image tokens per picture.
        depth: number of blocks.
        heads: number of attention heads.
        dim: inner width.
    """

    clip_dim: int
    cross_attention_dim: int
    num_tokens: int
    depth: int = 4
    heads: int = 12
    dim: int = 12 * RESAMPLER_DIM_HEAD


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

    @classmethod
    def sizes_in(cls, layout: AdapterLayout, header: Header) -> ProjectionSizes:
        """Read the sizes from a file.

        Args:
            layout: the file's layout.
            header: its header in the published form.

        Raises:
            LayoutError: a tensor that shows one of them is missing.
        """
        del header
        return ProjectionSizes(
            clip_dim=layout.clip_dim,
            cross_attention_dim=layout.cross_attention_dim,
            num_tokens=KINDS[cls.kind].num_tokens,
        )


class ImageProjModel(ImageProjection):
    """The base projection: one pooled embedding becomes a few tokens.

    Source: "IP-Adapter", arXiv 2308.06721, section 3.2.1: "a linear layer and a Layer Normalization".
    """

    kind = "base"

    def __init__(self, sizes: ProjectionSizes) -> None:
        super().__init__(sizes)
        self.proj = nn.Linear(sizes.clip_dim, sizes.num_tokens * sizes.cross_attention_dim)
        self.norm = nn.LayerNorm(sizes.cross_attention_dim)

    @classmethod
    def sizes_in(cls, layout: AdapterLayout, header: Header) -> ProjectionSizes:
        """Read the sizes, including the number of tokens: the reference code assumes 4, but the shapes may differ."""
        sizes = super().sizes_in(layout, header)
        return replace(sizes, num_tokens=max(1, size(header, "image_proj.proj.weight", 0) // sizes.cross_attention_dim))

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
