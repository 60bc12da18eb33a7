"""How the judge's readings are counted, and that it can be saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from toybox import world
from toybox.judge import PCK_THRESHOLD, Judge, Reading, joints_right, load_judge, right
from toybox.recipe.judge import save_judge


def test_a_joint_is_right_within_a_tenth_of_the_figures_height() -> None:
    expected = torch.zeros(1, 18, 2)
    expected[0, :, 1] = torch.linspace(0.2, 0.7, 18)  # half the picture high
    reach = PCK_THRESHOLD * 0.5
    read = expected.clone()
    read[0, 0, 0] += reach * 0.99
    read[0, 1, 0] += reach * 1.01
    hits = joints_right(Reading({}, read), expected)
    assert hits[0].tolist() == [True, False] + [True] * 16


def test_an_attribute_is_right_when_its_own_word_is_the_likeliest() -> None:
    labels = torch.zeros(1, len(world.ATTRIBUTES), dtype=torch.long)
    logits = {name: torch.eye(len(values))[:1] for name, values in world.ATTRIBUTES.items()}
    logits["species"] = logits["species"].flip(1)
    hits = right(Reading(logits, torch.zeros(1, 18, 2)), labels)
    assert [name for name, hit in hits.items() if not hit] == ["species"]


@pytest.mark.parametrize("side", [64, 96])
def test_the_judge_reads_pictures_of_any_size(side: int) -> None:
    reading = Judge(side)(torch.zeros(2, 3, side, side))
    assert reading.keypoints.shape == (2, 18, 2)
    assert {name: part.shape[1] for name, part in reading.logits.items()} == {
        name: len(values) for name, values in world.ATTRIBUTES.items()
    }


def test_a_face_counts_wherever_it_is() -> None:
    """The close-ups follow the joints, so that the same head elsewhere is read the same."""
    torch.manual_seed(0)
    judge = Judge(64).eval()
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 12:28, 12:28] = torch.rand(1, 3, 16, 16)
    keypoints = torch.full((1, 18, 2), 20 / 64)
    moved, about = picture.roll((8, 8), dims=(2, 3)), keypoints + 8 / 64
    with torch.no_grad():
        here, there = (
            judge.look_closely(each, points, torch.ones(1))["head"]
            for each, points in ((picture, keypoints), (moved, about))
        )
    assert torch.allclose(here, there, atol=1e-4)


def test_a_judge_that_was_written_reads_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = Judge(64).eval()
    save_judge(judge, tmp_path)
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        first, second = judge(pictures), load_judge(tmp_path)(pictures)
    assert torch.allclose(first.keypoints, second.keypoints, atol=5e-3)
    assert torch.allclose(first.logits["species"], second.logits["species"], atol=5e-3)
