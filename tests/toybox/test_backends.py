"""Backends that are fast on a processor compute what PyTorch's defaults do, and leave no settings behind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from toybox.recipe.backends import tuned_backends


class _Small(nn.Module):
    """A group norm and an attention layer, in channels-last memory format."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        states = self.norm(self.before(batch)).flatten(2).transpose(1, 2)[:, None]
        return F.scaled_dot_product_attention(states, states, states)


@pytest.fixture
def small() -> _Small:
    torch.manual_seed(0)
    return _Small().to(memory_format=torch.channels_last)


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)


def _gradients(module: nn.Module, batch: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(module(batch).square().sum(), list(module.parameters())))


def test_outcome_and_gradients_stay_what_they_are(small: _Small, batch: torch.Tensor) -> None:
    outcome, gradients = small(batch), _gradients(small, batch)
    with tuned_backends(small):
        assert torch.allclose(small(batch), outcome, atol=1e-5)
        for ours, theirs in zip(_gradients(small, batch), gradients, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)


def test_what_leaves_a_norm_has_its_channels_last_again(small: _Small, batch: torch.Tensor) -> None:
    with tuned_backends(small):
        assert small.norm(small.before(batch)).is_contiguous(memory_format=torch.channels_last)


def test_nothing_is_left_behind_even_by_an_error(small: _Small) -> None:
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed(), torch.backends.cuda.flash_sdp_enabled()
    with pytest.raises(RuntimeError), tuned_backends(small):
        small(torch.zeros(1, 5, 8, 8))
    assert not small.norm._forward_hooks and not small.norm._forward_pre_hooks
    after = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed(), torch.backends.cuda.flash_sdp_enabled()
    assert after == before
