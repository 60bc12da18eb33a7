"""Training pictures of pose reader and judge: toys pasted anywhere, pictures without a toy, slight degradation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toybox.recipe.augmentation import (
    MISUSES,
    as_jpeg,
    clouds,
    degraded,
    lightly_degraded,
    noisy,
    pasted_anywhere,
    pasted_toys,
    soft,
)
from toybox.world import View, pose_keypoints, render_place, sample_scene, sample_view

SIDE = 64


def test_joints_go_where_their_pixels_go() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor(pose_keypoints("waving")).repeat(40, 1, 1)
    # White except for a black block around the left ankle.
    toys = torch.ones(40, 3, SIDE, SIDE)
    x, y = (points[0, 13] * SIDE).int().tolist()
    toys[:, :, y - 2 : y + 3, x - 2 : x + 3] = -1
    shown, moved = pasted_toys(toys, points, canvases=torch.ones_like(toys), generator=generator)
    assert shown.shape == toys.shape
    assert float(moved.min()) >= 0 and float(moved.max()) <= 1
    for picture, joints in zip(shown, moved, strict=True):
        down, across = torch.nonzero(picture[0] < 0, as_tuple=True)
        assert float(across.float().mean() + 0.5) == pytest.approx(float(joints[13, 0]) * SIDE, abs=1.5)
        assert float(down.float().mean() + 0.5) == pytest.approx(float(joints[13, 1]) * SIDE, abs=1.5)


def test_every_augmentation_keeps_size_and_range_and_can_be_repeated() -> None:
    def pictures() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        toys = torch.rand(5, 3, SIDE, SIDE, generator=generator) * 2 - 1
        misused = [misuse(toys, generator) for misuse in MISUSES.values()]
        pasted = pasted_anywhere(toys, canvases=-toys, generator=generator)
        return [degraded(each, generator) for each in (*misused, pasted, clouds(5, SIDE, generator))]

    for batch, again in zip(pictures(), pictures(), strict=True):
        assert batch.shape == (5, 3, SIDE, SIDE)
        assert float(batch.abs().max()) <= 1
        assert torch.equal(batch, again)


def test_an_empty_place_is_the_picture_without_its_figure() -> None:
    import random

    from toybox.world import render, render_mask

    rng = random.Random(1)
    for _ in range(3):
        view: View = sample_view(rng)
        picture, empty = (np.asarray(each, dtype=int) for each in (render(view, 96), render_place(view.scene, 96)))
        figure = np.asarray(render_mask(view, 96)) > 0
        # The figure is gone; above the ground, where its shadow falls, nothing else changes.
        assert (np.abs(picture - empty).max(axis=2) > 20)[figure].mean() > 0.5
        assert np.abs(picture - empty)[:60][~figure[:60]].max() <= 2
    assert render_place(sample_scene(rng), 40).size == (40, 40)


@pytest.fixture
def pictures() -> torch.Tensor:
    """Return eight pictures of soft shapes, (8, 3, 64, 64)."""
    grain = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    return torch.nn.functional.interpolate(grain, size=(64, 64), mode="bilinear")


def test_lightly_degraded_pictures_are_near_what_they_were_and_each_is_changed(pictures: torch.Tensor) -> None:
    changed = lightly_degraded(pictures, torch.Generator().manual_seed(1))
    assert changed.shape == pictures.shape
    assert changed.abs().max() <= 1
    distance = (changed - pictures).abs().mean(dim=(1, 2, 3))
    assert (distance > 0).all()
    assert (distance < 0.2).all()
    assert torch.equal(changed, lightly_degraded(pictures, torch.Generator().manual_seed(1)))


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
