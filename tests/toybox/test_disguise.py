"""What the pose reader is shown: toys wherever they were pasted, and pictures without a toy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toybox.recipe.disguise import MISUSES, clouds, pasted_anywhere, pasted_toys, spoiled
from toybox.world import View, pose_keypoints, render_place, sample_scene, sample_view

SIDE = 64


def test_joints_go_where_their_pixels_go() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor(pose_keypoints("waving")).repeat(40, 1, 1)
    # White all over but for a black block about the left ankle.
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


def test_every_disguise_keeps_size_and_range_and_can_be_repeated() -> None:
    def pictures() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        toys = torch.rand(5, 3, SIDE, SIDE, generator=generator) * 2 - 1
        misused = [misuse(toys, generator) for misuse in MISUSES.values()]
        pasted = pasted_anywhere(toys, canvases=-toys, generator=generator)
        return [spoiled(each, generator) for each in (*misused, pasted, clouds(5, SIDE, generator))]

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
        # The figure has gone; above the ground, where it throws its shadow, all else is the same.
        assert (np.abs(picture - empty).max(axis=2) > 20)[figure].mean() > 0.5
        assert np.abs(picture - empty)[:60][~figure[:60]].max() <= 2
    assert render_place(sample_scene(rng), 40).size == (40, 40)
