"""From whatever picture a person gives to the pose picture a ControlNet needs."""

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
"""Finds whom a picture (mode "RGB") shows.

Raises:
    UserError: there is nobody, or photos cannot be read here, and why.
"""


@dataclass(frozen=True)
class PosePicture:
    """What a ControlNet for poses is given.

    Attributes:
        image: mode "RGB".
        notes: how what was brought was understood, where that may not be what was meant; a sentence for each.
    """

    image: Image.Image
    notes: tuple[Message, ...] = ()


def drawn_pose_in(source: Image.Image) -> DrawnPose | None:
    """Recognise the skeleton that is drawn in a picture (mode "RGB"); None where whom it shows is to be found.

    Raises:
        UserError: the picture is black.
    """
    # Imported here: it brings OpenCV, and the page must open at once.
    from ipa_app.pose.drawn import DARK, drawn_pose

    if np.asarray(source).max() <= DARK:
        raise UserError("pose.black")
    return drawn_pose(source)


def pose_image(
    source: Image.Image,
    size: tuple[int, int],
    *,
    find: FindPeople,
    fit: Callable[[PoseSheet], PoseSheet] = lambda sheet: sheet,
    look: Callable[[Image.Image], DrawnPose | None] = drawn_pose_in,
) -> PosePicture:
    """Make the pose picture for an output of `size`.

    Args:
        source: mode "RGB": a drawn skeleton, which is kept as it is or drawn anew, a photo of people, or a toy
            character.
        size: the output's (width, height); another shape than the source's is padded with black.
        find: finds the people in a photo, and the toy.
        fit: brings the joints, where they can be read, to what the model knows.
        look: recognises a drawn skeleton; another one than usual where it is known already what that sees.

    Returns:
        A picture of `size`.

    Raises:
        UserError: the picture is black, nobody is seen in it, or photos cannot be read here.
    """
    drawn = look(source)
    if drawn is not None:
        fitted = drawn.fitted(fit)
        return PosePicture(fitted.for_output(size), fitted.notes)
    sheet = fit(PoseSheet(find(source), *source.size).brought_closer())
    return PosePicture(draw_sheet(sheet, size), sheet.notes)


def find_pose(source: Image.Image, *, find: FindPeople) -> PoseSheet:
    """Find the pose in a drawn skeleton, a photo or the picture of a toy character, as data, so that it can be edited.

    Args:
        source: mode "RGB".
        find: finds the people in a photo, and the toy.

    Raises:
        UserError: the picture is black, its joints cannot be read, nobody is seen in it, or photos cannot be read here.
    """
    drawn = drawn_pose_in(source)
    if drawn is not None and drawn.sheet is None:
        raise UserError("pose.joints_unreadable")
    if drawn is not None and drawn.sheet is not None:
        lost = (Message("pose.details_left_out"),) if drawn.details else ()
        return replace(drawn.sheet, notes=(*drawn.sheet.notes, *lost))
    return PoseSheet(find(source), *source.size).brought_closer()


class PoseDetector:
    """Finds people's poses in photos, by any of `DETECTORS`, and those of toys by a network of their model.

    Loads the weights of each when they are first needed. May be used from any thread.
    """

    def __init__(self, *, device: str = "cpu") -> None:
        """Name the torch device to detect people on."""
        self._device = device
        self._people: dict[str, PeopleDetector] = {}
        self._lock = threading.Lock()
        self._toy_readers: dict[Path, ToyReader] = {}
        # One of their own: toys are read in an instant, and shall not wait for people to be found.
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
            weights: gives the weights of the people's detector, if it comes to that.
            options: how people are looked for.
            toy_reader: weights of a network that reads toy characters, which looks first; None where only people are
                looked for.
            check_cancelled: raises where nobody wants to know any more; asked when it is this search's turn.

        Raises:
            UserError: nobody is seen, or the detector's weights cannot be had; and what was tried before.
            Cancelled: so says `weights` or `check_cancelled`.
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
        # Imported here: it brings torch, and the page must open at once.
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
        # Outside the lock: who only has to be patient with a download keeps nobody else waiting.
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
