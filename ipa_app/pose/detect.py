"""Turn any picture a user provides into the pose picture that a ControlNet needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.pose.detector import PeopleDetector, PoseOptions, Weights, skeleton_from_people
from ipa_app.pose.detectors import DETECTORS, detector_for
from ipa_app.pose.draw import draw_sheet
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton
from ipa_app.runtime import building

if TYPE_CHECKING:
    from ipa_app.pose.drawn import DrawnPose
    from ipa_app.pose.toy_reader import ToyReader

_USUAL = PoseOptions()

FindPeople = Callable[[Image.Image], Skeleton]
"""Finds the people in a picture (mode "RGB").

Raises:
    UserError: there is nobody, or photos cannot be read here; with the reason.
"""


@dataclass(frozen=True)
class PosePicture:
    """The input of a pose ControlNet.

    Attributes:
        image: mode "RGB".
        notes: sentences on how the source was interpreted, where that may not be what the user intended.
    """

    image: Image.Image
    notes: tuple[Message, ...] = ()


def drawn_pose_in(source: Image.Image) -> DrawnPose | None:
    """Recognise the skeleton drawn in a picture (mode "RGB"); None if it needs a detector instead.

    Raises:
        UserError: the picture is black.
    """
    # Imported here because it loads OpenCV, and the page must open at once.
    from ipa_app.pose.drawn import DARK, drawn_pose

    if np.asarray(source).max() <= DARK:
        raise UserError("pose.black")
    return drawn_pose(source)


def pose_image(
    source: Image.Image,
    size: tuple[int, int],
    *,
    find: FindPeople,
    fit: Callable[[PoseSheet], PoseSheet] | None = None,
    look: Callable[[Image.Image], DrawnPose | None] = drawn_pose_in,
) -> PosePicture:
    """Build the pose picture for an output of `size`.

    Args:
        source: mode "RGB": a drawn skeleton, which is kept or redrawn, a photo of people, or a toy character.
        size: the output's (width, height); padded with black if its shape differs from the source's.
        find: finds the people in a photo, or the toy.
        fit: fits the joints, if they can be read, to the proportions that the model knows; None if it knows any.
        look: recognises a drawn skeleton; pass another function to reuse a known result.

    Returns:
        A picture of `size`.

    Raises:
        UserError: the picture is black, nobody is seen in it, or photos cannot be read here.
    """
    drawn = look(source)
    if drawn is not None:
        fitted = drawn if fit is None else drawn.fitted(fit)
        not_fitted = () if fit is None or drawn.sheet is not None else (Message("pose.not_fitted"),)
        return PosePicture(fitted.for_output(size), (*fitted.notes, *not_fitted))
    sheet = PoseSheet(find(source), *source.size).brought_closer()
    sheet = sheet if fit is None else fit(sheet)
    return PosePicture(draw_sheet(sheet, size), sheet.notes)


def find_pose(source: Image.Image, *, find: FindPeople) -> PoseSheet:
    """Find the pose in a drawn skeleton, a photo or a picture of a toy character, as data that can be edited.

    Args:
        source: mode "RGB".
        find: finds the people in a photo, and the toy.

    Raises:
        UserError: the picture is black, its joints cannot be read, nobody is seen in it, or photos cannot be read
            here.
    """
    drawn = drawn_pose_in(source)
    if drawn is not None and drawn.sheet is None:
        raise UserError("pose.joints_unreadable")
    if drawn is not None and drawn.sheet is not None:
        lost = (Message("pose.details_left_out"),) if drawn.details else ()
        return replace(drawn.sheet, notes=(*drawn.sheet.notes, *lost))
    return PoseSheet(find(source), *source.size).brought_closer()


class PoseDetector:
    """Finds people's poses in photos with any of `DETECTORS`, and toys' poses with a network of the toys' model.

    Loads weights on first use. Thread-safe.
    """

    def __init__(self, *, device: str = "cpu") -> None:
        """Create a detector of people on a torch device."""
        self._device = device
        self._people: dict[str, PeopleDetector] = {}
        self._lock = threading.Lock()
        self._toy_readers: dict[Path, ToyReader] = {}
        # A separate lock: toys are read in an instant and must not wait for the detection of people.
        self._toy_lock = threading.Lock()

    def detect(
        self,
        photo: Image.Image,
        *,
        weights: Weights,
        options: PoseOptions = _USUAL,
        toy_reader: Path | None = None,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> Skeleton:
        """Find the toy character in a picture, or everybody in a photo.

        Args:
            photo: mode "RGB".
            weights: returns the weights of the people detector; called only if needed.
            options: how to look for people.
            toy_reader: weights of a network that reads toy characters, which is tried first; None to look only for
                people.
            check_cancelled: raises if the search is cancelled; called when it is this search's turn.

        Raises:
            UserError: nobody is seen, or the detector's weights are unavailable; the message says what was tried.
            Cancelled: raised by `weights` or `check_cancelled`.
        """
        if toy_reader is None:
            return self._find_people(photo, weights, options, check_cancelled)
        toy = self._toy_reader(toy_reader).read(photo)
        if toy is not None:
            return Skeleton((toy,))
        try:
            return self._find_people(photo, weights, options, check_cancelled)
        except UserError as error:
            raise UserError("pose.no_toy_and", first=Message("pose.no_toy"), then=error.message) from error

    def _toy_reader(self, file: Path) -> ToyReader:
        # Imported here because it loads torch, and the page must open at once.
        from ipa_app.pose.toy_reader import load_toy_reader

        with self._toy_lock:
            if file not in self._toy_readers:
                with building():
                    self._toy_readers[file] = load_toy_reader(file)
            return self._toy_readers[file]

    def _find_people(
        self, photo: Image.Image, weights: Weights, options: PoseOptions, check_cancelled: Callable[[], None]
    ) -> Skeleton:
        detector = self._detector(detector_for(options).name)
        # Outside the lock: a search that waits for a download must not block others.
        files = {} if detector.is_ready(options) else weights(options)
        with self._lock:
            check_cancelled()
            if not detector.is_ready(options):
                with building():
                    detector.load(files, options)
            people = detector.find(photo, options)
        return skeleton_from_people(people)

    def _detector(self, name: str) -> PeopleDetector:
        with self._lock:
            if name not in self._people:
                self._people[name] = DETECTORS[name].make(self._device)
            return self._people[name]
