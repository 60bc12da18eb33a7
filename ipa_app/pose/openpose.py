"""Detect people with controlnet-aux's OpenPose."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.detector import Detector, FoundPerson, PoseOptions

_BODY, _HAND, _FACE = "body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"
# Detection works on pictures whose shorter side is 512, as controlnet-aux does by default.
_RESOLUTION = 512
# What torch raises for a file that is truncated, not a checkpoint, or holds more than plain weights, and what
# controlnet-aux raises for weights of another network.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, AttributeError, ValueError)


class OpenPose:
    """The networks, loaded on demand. Use from one thread at a time."""

    def __init__(self, *, device: str) -> None:
        self._device = device
        self._networks: dict[str, Any] = {}

    def is_ready(self, options: PoseOptions) -> bool:
        """Whether all networks for these options are loaded."""
        return self._networks.keys() >= {*OPENPOSE.files_for(options)}

    def load(self, files: Mapping[str, Path], options: PoseOptions) -> None:
        """Load the networks that are not loaded yet.

        Args:
            files: weights by their published names.
            options: what to look for.

        Raises:
            UserError: a file is damaged, or holds something else.
        """
        # Imported here because it loads torch, and the page must open at once.
        from ipa_app.pose.openpose_networks import Body, Hand, NumberedFace

        networks = {_BODY: Body, _HAND: Hand, _FACE: NumberedFace}
        for name in OPENPOSE.files_for(options):
            if name not in self._networks:
                self._networks[name] = _read(networks[name], files[name]).to(self._device)

    def find(self, photo: Image.Image, options: PoseOptions) -> list[FoundPerson]:
        """Find everybody in a photo (mode "RGB"); points are fractions 0..1 of it."""
        from ipa_app.pose.openpose_networks import OpenposeDetector

        detector = OpenposeDetector(*map(self._networks.get, (_BODY, _HAND, _FACE)))
        pixels = np.asarray(_at_resolution(photo))
        return [*detector.detect_poses(pixels, include_hand=options.pose_hands, include_face=options.pose_face)]


def _read(network: Callable[..., Any], file: Path) -> Any:
    """Build a network from its weights. These are pickles; torch.load runs no code in them (since 2.6)."""
    try:
        return network(str(file))
    except _UNREADABLE as error:
        raise UserError("pose.weights_not_plain", file=file.name, path=file) from error


def _at_resolution(photo: Image.Image) -> Image.Image:
    """Scale the shorter side to the detector's resolution, and the longer one to at most four times that."""
    scale = _RESOLUTION / min(photo.size)
    width, height = (min(4 * _RESOLUTION, round(side * scale / 64) * 64) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.LANCZOS)


OPENPOSE = Detector(
    name="openpose",
    title="OpenPose",
    licence="non-commercial",
    make=lambda device: OpenPose(device=device),
    repo="lllyasviel/Annotators",
    revision="982e7edaec38759d914a963c48c4726685de7d96",
    files=(_BODY,),
    hand_files=(_HAND,),
    face_files=(_FACE,),
    # They are only published as pickles; `load` reads them as plain weights.
    pickles=True,
    help=(
        "What OpenPose needs to find people is downloaded when it is first needed: 0.2 GB, and 0.15 GB more each for "
        "fingers and faces."
    ),
)
"""One network each for bodies, hands and faces."""
