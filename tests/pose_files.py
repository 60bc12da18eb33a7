"""Weights of pose detectors in their published layout, small, and with nobody to be found by them."""

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
    """All three files, the first one of some megabytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from controlnet_aux.open_pose.face import FaceNet
        from controlnet_aux.open_pose.model import bodypose_model, handpose_model
    with torch.device("meta"):
        body, hand, face = bodypose_model(), handpose_model(), FaceNet()
    # What is published of body and hand has the layers' own names; numbers that nobody asks for may be there as well.
    states: list[dict[str, Any]] = [
        {name.partition(".")[2]: zeros(tensor) for name, tensor in net.state_dict().items()} for net in (body, hand)
    ]
    states[0]["padding"] = torch.zeros(PADDING // 4)
    states.append({name: zeros(tensor) for name, tensor in face.state_dict().items()})
    return dict(zip(NAMES, map(saved, states), strict=True))


def zeros(like: torch.Tensor) -> torch.Tensor:
    """As many zeros as another tensor has numbers, of which a file needs only one."""
    return torch.zeros(1).expand(like.shape)


def saved(state: Any) -> bytes:
    """The content of a file of weights."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def pin_to_the_tests_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the weights be looked for at the only commit that a Hub of the tests has."""
    pinned = {name: replace(detector, revision=COMMIT) for name, detector in DETECTORS.items()}
    monkeypatch.setattr(pose_search, "DETECTORS", pinned)
