"""Noise for training: each batch covers the schedule, with an optional preference for its noisy end."""

from __future__ import annotations

import pytest
import torch

from toybox.recipe.denoiser import new_scheduler, noised


def _timesteps(lateness: float) -> torch.Tensor:
    clean = torch.zeros(1000, 1, 1, 1)
    return noised(new_scheduler(), clean, torch.Generator().manual_seed(0), lateness=lateness)[1]


@pytest.mark.parametrize("lateness", [1.0, 1.5, 3.0])
def test_timesteps_lie_where_their_law_puts_them(lateness: float) -> None:
    timesteps = _timesteps(lateness)
    # The mean of 1 - u^k over u in [0, 1] is 1 - 1 / (k + 1).
    assert timesteps.float().mean().item() == pytest.approx(1000 * (1 - 1 / (lateness + 1)), abs=2)
    assert timesteps.min() < 10
    assert timesteps.max() == 999


def test_a_batch_leaves_no_stretch_of_the_schedule_out() -> None:
    assert len(_timesteps(1.0).unique()) > 500
    assert set((_timesteps(1.0) // 10).tolist()) == set(range(100))


def test_the_last_timestep_is_pure_noise_and_its_target_the_picture() -> None:
    clean = torch.full((64, 1, 2, 2), 3.0)
    noisy, timesteps, target = noised(new_scheduler(), clean, torch.Generator().manual_seed(0), lateness=3.0)
    last = timesteps == 999
    assert last.any()
    assert noisy[last].mean().abs() < 0.5
    assert torch.allclose(target[last], -clean[last], atol=1e-3)
