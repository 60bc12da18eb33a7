"""The networks of controlnet-aux's OpenPose. Loads torch, so it is imported only when there is a photo."""

from __future__ import annotations

import warnings

import numpy as np

from ipa_app.pose.keypoints import FACE_POINTS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # controlnet-aux registers unneeded models and warns about each
    from controlnet_aux.open_pose import Body, Face, Hand, OpenposeDetector

__all__ = ["Body", "Hand", "NumberedFace", "OpenposeDetector"]


class NumberedFace(Face):
    """A face network whose points keep their indices when some are not seen, without the background."""

    def compute_peaks_from_heatmaps(self, heatmaps: np.ndarray) -> np.ndarray:
        """Return the position (x, y) of every point in heatmaps (71, H, W); (0, 0) for points not seen."""
        found = [Face.compute_peaks_from_heatmaps(self, heatmap[None]) for heatmap in heatmaps[:FACE_POINTS]]
        return np.array([peaks[0] if len(peaks) else (0, 0) for peaks in found])
