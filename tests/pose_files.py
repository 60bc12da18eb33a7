"""Small pose detector weights in their published layout, with which nobody is ever found."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch

from ipa_app.engine.tasks import pose_search
from ipa_app.pose.detectors import DETECTORS
from tests.hub_server import COMMIT

REPO = "lllyasviel/Annotators"
DWPOSE_REPO = "yzd-v/DWPose"
PADDING = 3 * 2**20
NAMES = ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth")


def openpose_files() -> dict[str, bytes]:
    """Return all three files; the first is padded to some megabytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from controlnet_aux.open_pose.face import FaceNet
        from controlnet_aux.open_pose.model import bodypose_model, handpose_model
    with torch.device("meta"):
        body, hand, face = bodypose_model(), handpose_model(), FaceNet()
    # The published body and hand weights are keyed by bare layer names; unused extra tensors are allowed.
    states: list[dict[str, Any]] = [
        {name.partition(".")[2]: zeros(tensor) for name, tensor in net.state_dict().items()} for net in (body, hand)
    ]
    states[0]["padding"] = torch.zeros(PADDING // 4)
    states.append({name: zeros(tensor) for name, tensor in face.state_dict().items()})
    return dict(zip(NAMES, map(saved, states), strict=True))


def zeros(like: torch.Tensor) -> torch.Tensor:
    """Return zeros in another tensor's shape, expanded from one so that a file stores only that one."""
    return torch.zeros(1).expand(like.shape)


def saved(state: Any) -> bytes:
    """Return the bytes of a file of weights."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def pin_to_the_tests_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pin the detectors to the only commit the tests' Hub has."""
    pinned = {name: replace(detector, revision=COMMIT) for name, detector in DETECTORS.items()}
    monkeypatch.setattr(pose_search, "DETECTORS", pinned)
