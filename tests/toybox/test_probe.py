"""What the probe's readings are counted as."""

from __future__ import annotations

import torch

from ipa_app.toybox import world
from ipa_app.toybox.probe import PCK_THRESHOLD, Probe, Reading, joints_right, right


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


def test_the_probe_reads_pictures_of_any_size() -> None:
    reading = Probe(side=96)(torch.zeros(2, 3, 96, 96))
    assert reading.keypoints.shape == (2, 18, 2)
    assert {name: part.shape[1] for name, part in reading.logits.items()} == {
        name: len(values) for name, values in world.ATTRIBUTES.items()
    }
