"""Faces, heads, shirts and limbs have more weight in the loss, while a picture's total weight is unchanged."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from toybox import world
from toybox.recipe.loss_weights import loss_weights


def test_face_shirt_and_wrists_count_for_more_than_corners() -> None:
    rng = random.Random(3)
    view = world.View(world.sample_subject(rng), world.sample_scene(rng))
    keypoints = np.asarray(world.keypoints(view), np.float32)[None]
    weights = loss_weights(torch.from_numpy(keypoints), torch.Size((1, 4, 32, 32)))[0, 0]
    nose = (keypoints[0, 0] * 32).astype(int)
    shirt = (keypoints[0, [1, 8, 11]].mean(axis=0) * 32).astype(int)
    wrist = (keypoints[0, 4] * 32).astype(int)
    assert weights[wrist[1], wrist[0]] > 1.5 * weights[31, 0]
    assert weights[nose[1], nose[0]] > 6 * weights[31, 0]
    assert weights[shirt[1], shirt[0]] > 3 * weights[31, 0]
    assert weights.mean().item() == pytest.approx(1, abs=1e-5)
