"""People found by controlnet-aux's OpenPose. Brings torch, so that it is imported when a photo is there."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.details import FACE_POINTS
from ipa_app.pose.options import PoseOptions
from ipa_app.pose.people import FoundPerson

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # controlnet-aux registers models nobody asked for, and warns about each
    from controlnet_aux.open_pose import Body, Face, Hand, OpenposeDetector

# Detection works on pictures whose shorter side is 512, as controlnet-aux does by default.
_RESOLUTION = 512
# What torch raises for a file that is cut off, of something else, or holds more than plain weights, and controlnet-aux
# for weights of another network.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, AttributeError, ValueError)


class OpenPose:
    """The networks that were asked for so far. For one thread at a time."""

    def __init__(self, *, device: str) -> None:
        self._device = device
        self._networks: dict[str, Any] = {}

    def is_ready(self, options: PoseOptions) -> bool:
        """Whether all networks are loaded."""
        return self._networks.keys() >= _needed(options).keys()

    def load(self, files: Mapping[str, Path], options: PoseOptions) -> None:
        """Load those networks that are not loaded yet.

        Args:
            files: the weights by the names under which they are published.
            options: what is looked for.

        Raises:
            UserError: a file is damaged, or of something else.
        """
        for name, network in _needed(options).items():
            if name not in self._networks:
                self._networks[name] = _read(network, files[name]).to(self._device)

    def find(self, photo: Image.Image, options: PoseOptions) -> list[FoundPerson]:
        """Find everybody in a photo (mode "RGB"); points are fractions 0..1 of it."""
        detector = OpenposeDetector(*map(self._networks.get, _NETWORKS))
        pixels = np.asarray(_at_resolution(photo))
        return [*detector.detect_poses(pixels, include_hand=options.hands, include_face=options.face)]


class NumberedFace(Face):
    """A network for faces whose points keep their numbers where some are not seen, and without the background."""

    def compute_peaks_from_heatmaps(self, heatmaps: np.ndarray) -> np.ndarray:
        """Give the place (x, y) of every point in heatmaps (71, H, W); (0, 0) for one that is not seen."""
        found = [Face.compute_peaks_from_heatmaps(self, heatmap[None]) for heatmap in heatmaps[:FACE_POINTS]]
        return np.array([peaks[0] if len(peaks) else (0, 0) for peaks in found])


_NETWORKS: dict[str, Callable[..., Any]] = {
    "body_pose_model.pth": Body,
    "hand_pose_model.pth": Hand,
    "facenet.pth": NumberedFace,
}


def _needed(options: PoseOptions) -> dict[str, Callable[..., Any]]:
    wanted = zip(_NETWORKS.items(), (True, options.hands, options.face), strict=True)
    return dict(item for item, is_wanted in wanted if is_wanted)


def _read(network: Callable[..., Any], file: Path) -> Any:
    """Build a network from its weights. They are pickles, and torch.load runs no code in them (since 2.6)."""
    try:
        return network(str(file))
    except _UNREADABLE as error:
        raise UserError("pose.weights_not_plain", file=file.name, path=file) from error


def _at_resolution(photo: Image.Image) -> Image.Image:
    """Scale the shorter side to the detector's resolution, and the longer one to four times that at most."""
    scale = _RESOLUTION / min(photo.size)
    width, height = (max(64, min(4 * _RESOLUTION, round(side * scale / 64) * 64)) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.LANCZOS)
