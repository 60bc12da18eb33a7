"""The kinds of adapter, and which features of the vision tower each takes."""

from __future__ import annotations

from typing import Literal

AdapterKind = Literal["base", "plus", "full"]
"""base: pooled ``image_embeds``, a few tokens. plus: all hidden states, resampled. full: all, one token each."""

DEFAULT_NUM_TOKENS: dict[AdapterKind, int] = {"base": 4, "plus": 16, "full": 257}
"""As in the published adapters."""

RESAMPLER_DIM_HEAD = 64
"""Width of a Resampler head. The published layout does not record it, and every reader takes 64."""
