"""The queries that the distillation samples for the text attention."""

from __future__ import annotations

import torch

from toybox.recipe.attention_distillation import queries_that_count


def test_queries_come_as_often_as_their_place_counts() -> None:
    # Two pictures of 4 x 4 latents, seen by a layer at half the side: 8 queries, each with its own number.
    queries = torch.arange(8.0).reshape(2, 4, 1)
    weights = torch.ones(2, 1, 4, 4)
    weights[1, 0, 2:, :2] = 9  # the lower left quarter of the second picture, query 6
    drawn = queries_that_count(queries, weights, 16_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (16_000, 1)
    shares = drawn.flatten().long().bincount(minlength=8) / len(drawn)
    assert torch.allclose(shares, torch.tensor([1, 1, 1, 1, 1, 1, 9, 1]) / 16, atol=0.01)
