"""The available people detectors. A new one needs its module and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.pose.detector import Detector, PoseOptions
from ipa_app.pose.dwpose import DWPOSE
from ipa_app.pose.openpose import OPENPOSE

USUAL = OPENPOSE
"""The default detector; it needs no extra packages."""

DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {
        detector.name: detector
        for detector in (
            OPENPOSE,
            DWPOSE,
        )
    }
)
"""The detectors by their names in requests."""

if TYPE_CHECKING:
    DetectorName = str
else:
    DetectorName = Literal[tuple(DETECTORS)]


def detectors() -> tuple[str, ...]:
    """Return the names of the installed detectors."""
    return tuple(name for name, detector in DETECTORS.items() if detector.is_installed)


def detector_for(options: PoseOptions) -> Detector:
    """Return the requested detector.

    Raises:
        UserError: its packages are missing, or it cannot find what the options ask for.
    """
    detector = DETECTORS[options.pose_detector]
    if not detector.is_installed:
        raise UserError("pose.not_installed", title=detector.title, other=USUAL.title)
    for wanted, can, key in (
        (options.pose_hands, detector.hands, "pose.fingers"),
        (options.pose_face, detector.face, "pose.faces"),
    ):
        if wanted and not can:
            raise UserError("pose.does_not_find", title=detector.title, details=Message(key), other=USUAL.title)
    return detector
