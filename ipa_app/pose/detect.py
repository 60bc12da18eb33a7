"""From whatever picture a person gives to the pose picture a ControlNet needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ipa_app.building import ONE_AT_A_TIME
from ipa_app.errors import UserError
from ipa_app.pose.draw import draw_sheet, fit_skeleton_picture
from ipa_app.pose.options import DetectorName, PoseOptions, Weights, check_installed
from ipa_app.pose.people import skeleton_from_people
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton

if TYPE_CHECKING:
    from ipa_app.pose.dwpose import DWPose
    from ipa_app.pose.openpose import OpenPose
    from ipa_app.pose.toy_reader import ToyReader

_DARK = 40  # of 255: black after JPEG compression
_WHITE = 160  # of 255: likewise white, also where small points were shrunk
_USUAL = PoseOptions()
_NO_TOY = "No toy character was recognised in this picture (it should show one, whole and upright)."

FindPeople = Callable[[Image.Image], Skeleton]
"""Finds whom a picture (mode "RGB") shows.

Raises:
    UserError: there is nobody, or photos cannot be read here, and why.
"""


def is_skeleton(image: Image.Image) -> bool:
    """Tell a drawn OpenPose skeleton from a photo.

    A skeleton is mostly black, and what is not black is thin, pure colours from all round the colour circle, and
    perhaps a face's white points.

    Args:
        image: mode "RGB".
    """
    pixels = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR), dtype=np.float32).reshape(-1, 3)
    brightest = pixels.max(axis=1)
    lit = brightest > _DARK
    if not 0.001 <= lit.mean() <= 0.4:
        return False
    pure = 1 - pixels[lit].min(axis=1) / brightest[lit] > 0.6
    white = pixels[lit].min(axis=1) > _WHITE
    # JPEG greys the edges.
    if pure.mean() < 0.3 or (pure | white).mean() < 0.75:
        return False
    hues = np.asarray(image.convert("HSV").resize((256, 256), Image.Resampling.NEAREST)).reshape(-1, 3)
    vivid = hues[(hues[:, 2] > _DARK) & (hues[:, 1] > 150), 0]
    if vivid.size == 0:
        return False
    shares = np.bincount(vivid.astype(np.int64) * 12 // 256, minlength=12) / vivid.size
    return bool((shares > 0.01).sum() >= 3)


def pose_image(source: Image.Image, size: tuple[int, int], *, find: FindPeople) -> Image.Image:
    """Make the pose picture for an output of `size`.

    Args:
        source: mode "RGB": a drawn skeleton, which is kept as it is, a photo of people, or a toy character.
        size: the output's (width, height); another shape than the source's is padded with black.
        find: finds the people in a photo, and the toy.

    Returns:
        Mode "RGB" of `size`.

    Raises:
        UserError: the picture is black, nobody is seen in it, or photos cannot be read here.
    """
    if np.asarray(source).max() <= _DARK:
        raise UserError("The pose picture is black, so no pose is in it: please choose a preset or another picture.")
    if is_skeleton(source):
        return fit_skeleton_picture(source, size)
    return draw_sheet(PoseSheet(find(source), *source.size), size)


def find_pose(source: Image.Image, *, find: FindPeople) -> PoseSheet:
    """Find the pose in a photo, or in the picture of a toy character, as data, so that it can be edited.

    Args:
        source: mode "RGB".
        find: finds the people, and the toy.

    Raises:
        UserError: it is a drawn skeleton, nobody is seen in it, or photos cannot be read here.
    """
    if is_skeleton(source):
        raise UserError(
            "This is a drawn skeleton, whose joints cannot be read back: generate from it as it is, or use its "
            "keypoints file instead."
        )
    return PoseSheet(find(source), *source.size)


class PoseDetector:
    """Finds people's poses in photos, by OpenPose or DWPose, and those of toys by a network of their model.

    Loads the weights of each when they are first needed. May be used from any thread.
    """

    def __init__(self, *, device: str = "cpu") -> None:
        """Name the torch device to detect people on."""
        self._device = device
        self._people: dict[DetectorName, OpenPose | DWPose] = {}
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
    ) -> Skeleton:
        """Find the toy character in a picture, or everybody in a photo.

        Args:
            photo: mode "RGB".
            weights: gives the weights of the people's detector, if it comes to that.
            options: how people are looked for.
            toy_reader: weights of a network that reads toy characters, which looks first; None where only people are
                looked for.

        Raises:
            UserError: nobody is seen, or the detector's weights cannot be had; and what was tried before.
            Cancelled: so says `weights`.
        """
        if toy_reader is None:
            return self._find_people(photo, weights, options)
        toy = self._toy_reader(toy_reader).read(photo)
        if toy is not None:
            return Skeleton((toy,))
        try:
            return self._find_people(photo, weights, options)
        except UserError as error:
            raise UserError(f"{_NO_TOY} {error}") from error

    def _toy_reader(self, file: Path) -> ToyReader:
        # Imported here: it brings torch, and the page must open at once.
        from ipa_app.pose.toy_reader import load_toy_reader

        with self._toy_lock:
            if file not in self._toy_readers:
                with ONE_AT_A_TIME:
                    self._toy_readers[file] = load_toy_reader(file)
            return self._toy_readers[file]

    def _find_people(self, photo: Image.Image, weights: Weights, options: PoseOptions) -> Skeleton:
        check_installed(options.detector)
        detector = self._detector(options.detector)
        # Outside the lock: who only has to be patient with a download keeps nobody else waiting.
        files = {} if detector.is_ready(options) else weights(options)
        with self._lock:
            if not detector.is_ready(options):
                with ONE_AT_A_TIME:
                    detector.load(files, options)
            people = detector.find(photo, options)
        return skeleton_from_people(people)

    def _detector(self, name: DetectorName) -> OpenPose | DWPose:
        with self._lock:
            if name not in self._people:
                self._people[name] = _new_detector(name, device=self._device)
            return self._people[name]


def _new_detector(name: DetectorName, *, device: str) -> OpenPose | DWPose:
    # Imported here: they bring torch, or may not be installed.
    if name == "dwpose":
        from ipa_app.pose.dwpose import DWPose

        return DWPose(device=device)
    from ipa_app.pose.openpose import OpenPose

    return OpenPose(device=device)
