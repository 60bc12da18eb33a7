"""The distance between two sets of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from bench.judging import JUDGE, held_out_views
from bench.looks import Drawings
from toybox import world
from toybox.judge import Judge, load_judge

COUNT = 24


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge(JUDGE)


@pytest.fixture(scope="module")
def halves(judge: Judge) -> tuple[Sequence[Image.Image], Sequence[Image.Image]]:
    """Return two sets of drawings of different characters."""
    drawn = [world.render(view, judge.side) for view in held_out_views(2 * COUNT)]
    return drawn[::2], drawn[1::2]


def test_softer_pictures_are_farther_from_drawings(
    judge: Judge, halves: tuple[Sequence[Image.Image], Sequence[Image.Image]]
) -> None:
    first, second = halves
    drawings = Drawings(judge, first)
    blurred = [drawings.distance([each.filter(ImageFilter.GaussianBlur(by)) for each in second]) for by in (1, 2)]
    assert drawings.distance(second) < blurred[0] / 5
    assert blurred[0] < blurred[1]


def test_the_distance_is_the_unbiased_one_with_a_gaussian_kernel() -> None:
    torch.manual_seed(0)
    judge = Judge(64).eval()
    rng = np.random.default_rng(0)
    noise = [rng.normal(128, spread, (64, 64)).clip(0, 255).astype(np.uint8) for spread in (20, 40, 60, 80)]
    pictures = [Image.fromarray(each).convert("RGB") for each in noise]
    first, second = pictures[:2], pictures[2:]
    with torch.no_grad():
        batch = torch.stack([torch.tensor(list(p.getdata())).T.reshape(3, 64, 64) for p in pictures]) / 127.5 - 1
        values = judge.statistics(batch)
    values = (values - values[:2].mean(dim=0)) / values[:2].std(dim=0)

    def kernel(a: int, b: int) -> float:
        return float(torch.exp(-(values[a] - values[b]).square().mean() / 2))

    between = sum(kernel(a, b) for a in (0, 1) for b in (2, 3)) / 4
    expected = 1000 * (kernel(0, 1) + kernel(2, 3) - 2 * between)
    assert Drawings(judge, first).distance(second) == pytest.approx(expected, rel=1e-3)
