"""Detect people with DWPose, run by rtmlib: body, hands and face at once.

Source: Yang et al. 2023, "Effective Whole-body Pose Estimation with Two-stages Distillation"; sizes and thresholds
are those of its authors' implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.detector import Detector, FoundPerson, PoseOptions

_FINDER, _POSE = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"

_PERSON = 0  # class index among the detector's many classes
_FINDER_SIZE = (640, 640)
_POSE_SIZE = (288, 384)  # width, height
_LONGEST_SIDE = 2048


class DWPose:
    """Both networks, loaded on demand. Use from one thread at a time."""

    def __init__(self, *, device: str) -> None:
        self._device = device
        self._networks: tuple[Any, Any] | None = None

    def is_ready(self, _: PoseOptions) -> bool:
        """Whether the networks are loaded."""
        return self._networks is not None

    def load(self, files: Mapping[str, Path], _: PoseOptions) -> None:
        """Load the networks from files by their published names.

        Raises:
            UserError: a file is damaged, or holds something else.
        """
        from rtmlib import YOLOX, RTMPose  # pyright: ignore[reportMissingImports] - it need not be there

        finder, pose = str(files[_FINDER]), str(files[_POSE])
        try:
            self._networks = (
                YOLOX(finder, _FINDER_SIZE, det_mode="multiclass", nms_thr=0.45, score_thr=0.3, device=self._device),
                RTMPose(pose, _POSE_SIZE, to_openpose=True, device=self._device),
            )
        # onnxruntime's errors have no narrower common type.
        except Exception as error:
            raise UserError("pose.dwpose_unreadable", finder=finder, pose=pose) from error

    def find(self, photo: Image.Image, options: PoseOptions) -> list[FoundPerson]:
        """Find everybody in a photo (mode "RGB"); points are fractions 0..1 of it."""
        from rtmlib import Wholebody  # pyright: ignore[reportMissingImports] - it need not be there

        if self._networks is None:
            raise RuntimeError("load() comes first")
        finder, pose = self._networks
        small = photo.copy()
        small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        pixels = np.ascontiguousarray(np.asarray(small)[:, :, ::-1])
        boxes, classes = finder(pixels)
        boxes = [box for box, kind in zip(boxes, classes, strict=True) if kind == _PERSON]
        if not boxes:  # otherwise the whole picture would be taken for a person
            return []
        points, scores = pose(pixels, bboxes=boxes)
        points = points / small.size
        people = Wholebody.format_result(np.concatenate([points, scores[..., None]], axis=-1))
        return [_without(person, options) for person in people]


def _without(person: FoundPerson, options: PoseOptions) -> FoundPerson:
    """Remove what was not asked for."""
    changes = {} if options.pose_hands else {"left_hand": None, "right_hand": None}
    return person._replace(**changes, **({} if options.pose_face else {"face": None}))  # type: ignore[attr-defined]


DWPOSE = Detector(
    name="dwpose",
    title="DWPose",
    licence="Apache-2.0",
    make=lambda device: DWPose(device=device),
    repo="yzd-v/DWPose",
    revision="1a7144101628d69ee7a3768d1ee3a094070dc388",
    files=(_FINDER, _POSE),
    packages=("rtmlib", "onnxruntime"),
    help="DWPose is downloaded when it is first needed: 0.4 GB.",
)
"""One network that finds people, and one for body, hands and face."""
