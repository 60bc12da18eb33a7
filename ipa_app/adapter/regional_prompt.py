"""Words that replace the prompt in a part of the new picture. They are data, like image prompts.

`RegionalPrompt` holds the words of one part; `RegionalPromptBatch` is what one pipeline call carries. With a query Q of
the UNet, the prompt's keys and values K, V and those of the words K_i, V_i, each text cross-attention becomes

    out_text = (1 - sum_i s_i) * Attn(Q, K, V) + sum_i s_i * Attn(Q, K_i, V_i)

where s_i in [0, 1] is the share of words i at each position, and the shares add up to at most 1. The terms of image
prompts are added to that. Source: regional prompting, or "attention couple", as in diffusers'
examples/community/regional_prompting_stable_diffusion.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ipa_app.adapter.image_prompt import check_rows, resize_masks


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RegionalPrompt:
    """Words for a part of one picture.

    Attributes:
        states: their text embeddings: (tokens, cross_attention_dim).
        share: their share at each position: (height, width) in [0, 1], of any size. The shares of one picture add up to
            at most 1 everywhere.
    """

    states: Tensor
    share: Tensor

    def to(self, dtype: torch.dtype, *, device: torch.device | None = None) -> RegionalPrompt:
        """Return the same words in another dtype, on another device if one is given."""
        return replace(self, states=self.states.to(device=device, dtype=dtype), share=self.share.to(device))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RegionalTerm:
    """Words of equal length that are computed together, for rows of the batch that have equally many of them.

    Attributes:
        rows: (rows,) int64, each row once, so that adding the terms is deterministic on a GPU too.
        states: (rows, regions, tokens, cross_attention_dim).
        shares: (rows, regions, height, width) on the latent grid.
    """

    rows: Tensor
    states: Tensor
    shares: Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RegionalPromptBatch:
    """The regional words of all rows of one pipeline call, as its UNet sees them.

    Attributes:
        rows: (rows,) int64, the rows that have any; never rows of the unconditional side of guidance.
        rest: (rows, 1, height, width), the share at each position of the latent grid that is left to the prompt.
        terms: what the words add.
        num_rows: number of rows of the whole batch.
    """

    rows: Tensor
    rest: Tensor
    terms: tuple[RegionalTerm, ...]
    num_rows: int

    @classmethod
    def stack(
        cls, rows: Sequence[Sequence[RegionalPrompt]], *, guidance: bool, latent_size: tuple[int, int]
    ) -> RegionalPromptBatch:
        """Stack the regional words of the pictures of one call.

        Args:
            rows: for each picture its words, perhaps none; at least one picture has some.
            guidance: as for `ImagePromptBatch.stack`.
            latent_size: (height, width) of the latents.
        """
        first_cond = len(rows) if guidance else 0
        groups: dict[tuple[int, int], list[tuple[int, list[RegionalPrompt]]]] = defaultdict(list)
        rests: dict[int, Tensor] = {}
        for row, prompts in enumerate(rows, start=first_cond):
            by_length: dict[int, list[RegionalPrompt]] = defaultdict(list)
            for prompt in prompts:
                by_length[len(prompt.states)].append(prompt)
            for length, alike in by_length.items():
                groups[length, len(alike)].append((row, alike))
            if prompts:
                rests[row] = 1 - _on_grid(prompts, latent_size).sum(dim=0, keepdim=True)
        return cls(
            rows=torch.tensor(list(rests)),
            rest=torch.stack(list(rests.values())),
            terms=tuple(_term(group, latent_size) for group in groups.values()),
            num_rows=first_cond + len(rows),
        )

    def of_rows(self, rows: Tensor) -> RegionalPromptBatch:
        """Return the same for a call with only some of the rows; they must include all rows that have words.

        Args:
            rows: as for `ImagePromptBatch.of_rows`.
        """

        def numbered_anew(old: Tensor) -> Tensor:
            return torch.where(old[:, None] == rows.to(old)[None])[1]

        terms = tuple(replace(term, rows=numbered_anew(term.rows)) for term in self.terms)
        return replace(self, rows=numbered_anew(self.rows), terms=terms, num_rows=len(rows))

    def tensors(self) -> tuple[tuple[Tensor, ...], ...]:
        """Return all tensors a UNet reads: the rows with their rest, and each term's rows, states and shares."""
        return (self.rows, self.rest), *((term.rows, term.states, term.shares) for term in self.terms)

    def check_rows(self, num_rows: int) -> None:
        """Check that the UNet's batch has the number of rows that this was stacked for.

        Raises:
            ValueError: it has not.
        """
        check_rows(num_rows, stacked_for=self.num_rows)


def _term(group: Sequence[tuple[int, Sequence[RegionalPrompt]]], latent_size: tuple[int, int]) -> RegionalTerm:
    return RegionalTerm(
        rows=torch.tensor([row for row, _ in group]),
        states=torch.stack([torch.stack([prompt.states for prompt in prompts]) for _, prompts in group]),
        shares=torch.stack([_on_grid(prompts, latent_size) for _, prompts in group]),
    )


def _on_grid(prompts: Sequence[RegionalPrompt], latent_size: tuple[int, int]) -> Tensor:
    """Resize the shares of several prompts to the latent grid: (prompts, height, width)."""
    return torch.cat([resize_masks(prompt.share[None, None].float(), *latent_size)[0] for prompt in prompts])
