"""What the vision tower is trained to predict, by the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toybox import world
from toybox.recipe.towers import WordTargets


def labels(count: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    return np.stack([rng.integers(len(words), size=count) for words in world.ATTRIBUTES.values()], axis=1)


def test_the_right_words_leave_nothing_unexplained_and_the_means_everything() -> None:
    drawn = labels(400)
    rows = torch.arange(400)
    sizes = [len(words) for words in world.ATTRIBUTES.values()]
    right = tuple(torch.eye(size)[drawn[:, column]] for column, size in enumerate(sizes))
    means = tuple(each.mean(dim=0).expand(400, -1) for each in right)
    targets = WordTargets(torch.from_numpy(drawn))
    assert targets.unexplained(right, rows).max() == 0
    assert targets.unexplained(means, rows) == pytest.approx(torch.ones(len(sizes)).tolist(), abs=1e-4)


def test_every_attribute_counts_alike_however_many_words_it_has() -> None:
    drawn = labels(400)
    rows = torch.arange(400)
    half = tuple(
        (torch.eye(len(words))[drawn[:, column]] + torch.eye(len(words))[drawn[:, column]].mean(dim=0)) / 2
        for column, words in enumerate(world.ATTRIBUTES.values())
    )
    assert WordTargets(torch.from_numpy(drawn)).unexplained(half, rows) == pytest.approx([0.25] * len(half), abs=1e-4)
