"""The shapes by which files are checked are those of the networks that are built from them."""

from __future__ import annotations

import pytest
import torch

from ipa_app.adapter.ip_adapter import PROJECTIONS
from ipa_app.adapter.kinds import KINDS
from ipa_app.adapter.shapes import ProjectionSizes, adapter_shapes


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_must_hold_what_the_network_of_its_kind_holds(kind: str) -> None:
    """All sizes differ, so that none of them can stand for another."""
    sizes = ProjectionSizes(clip_dim=20, cross_attention_dim=24, num_tokens=3, depth=2, heads=5, dim=28)
    with torch.device("meta"):
        network = PROJECTIONS[kind](sizes)
    held = {f"image_proj.{key}": tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    assert adapter_shapes(kind, sizes, ()) == held
