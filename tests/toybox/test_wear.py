"""Drawings in slight wear: still the same drawings."""

from __future__ import annotations

import pytest
import torch

from toybox.recipe.wear import as_jpeg, noisy, soft, worn


@pytest.fixture
def pictures() -> torch.Tensor:
    """Eight of soft shapes, (8, 3, 64, 64)."""
    grain = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    return torch.nn.functional.interpolate(grain, size=(64, 64), mode="bilinear")


def test_worn_pictures_are_near_what_they_were_and_each_is_changed(pictures: torch.Tensor) -> None:
    changed = worn(pictures, torch.Generator().manual_seed(1))
    assert changed.shape == pictures.shape
    assert changed.abs().max() <= 1
    distance = (changed - pictures).abs().mean(dim=(1, 2, 3))
    assert (distance > 0).all()
    assert (distance < 0.2).all()
    assert torch.equal(changed, worn(pictures, torch.Generator().manual_seed(1)))


def test_a_blur_is_measured_in_256ths_of_the_width() -> None:
    spot = torch.full((1, 3, 128, 128), -1.0)
    spot[..., 64, 64] = 1
    spread = (soft(spot, 4.0)[0, 0, 64] + 1).double()
    offsets = torch.arange(128) - 64
    assert float((spread * offsets**2).sum() / spread.sum()) == pytest.approx(2.0**2, rel=0.1)


def test_noise_is_as_strong_as_it_was_asked_for(pictures: torch.Tensor) -> None:
    added = noisy(pictures, 0.05, torch.Generator().manual_seed(0)) - pictures
    assert float(added.std()) == pytest.approx(0.05, rel=0.05)


def test_jpeg_of_high_quality_is_nearly_the_picture(pictures: torch.Tensor) -> None:
    good, bad = ((as_jpeg(pictures, quality) - pictures).abs().mean() for quality in (95, 5))
    assert 0 < good < 0.02 < bad
