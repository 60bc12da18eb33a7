"""From whatever picture a person gives to the pose picture a ControlNet needs."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.pose.draw import draw_sheet, fit_skeleton_picture
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Person, Skeleton

if TYPE_CHECKING:
    from controlnet_aux.open_pose import OpenposeDetector, PoseResult

    from ipa_app.pose.toy_reader import ToyReader

OPENPOSE_WEIGHTS = "lllyasviel/Annotators"

# Detection works on pictures whose shorter side is 512, as controlnet-aux does by default.
_DETECT_RESOLUTION = 512
_HUB_TIMEOUT_S = 5
_DARK = 40  # of 255: black after JPEG compression
_WHITE = 160  # of 255: likewise white, also where small points were shrunk
_NO_TOY = "No toy character was recognised in this picture (it should show one, whole and upright)."


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


def pose_image(
    source: Image.Image, size: tuple[int, int], *, detector: PoseDetector, toy_reader: Path | None = None
) -> Image.Image:
    """Make the pose picture for an output of `size`.

    Args:
        source: mode "RGB": a drawn skeleton, which is kept as it is, a photo of people, or a toy character.
        size: the output's (width, height); another shape than the source's is padded with black.
        detector: finds the people in a photo, and the toy.
        toy_reader: as for `PoseDetector.detect`.

    Returns:
        Mode "RGB" of `size`.

    Raises:
        UserError: the picture is black, nobody is seen in it, or photos cannot be read here.
    """
    if np.asarray(source).max() <= _DARK:
        raise UserError("The pose picture is black, so no pose is in it: please choose a preset or another picture.")
    if is_skeleton(source):
        return fit_skeleton_picture(source, size)
    return draw_sheet(PoseSheet(detector.detect(source, toy_reader=toy_reader), *source.size), size)


def find_pose(source: Image.Image, *, detector: PoseDetector, toy_reader: Path | None = None) -> PoseSheet:
    """Find the pose in a photo, or in the picture of a toy character, as data, so that it can be edited.

    Args:
        source: mode "RGB".
        detector: finds the people, and the toy.
        toy_reader: as for `PoseDetector.detect`.

    Raises:
        UserError: it is a drawn skeleton, nobody is seen in it, or photos cannot be read here.
    """
    if is_skeleton(source):
        raise UserError(
            "This is a drawn skeleton, whose joints cannot be read back: generate from it as it is, or use its "
            "keypoints file instead."
        )
    return PoseSheet(detector.detect(source, toy_reader=toy_reader), *source.size)


class PoseDetector:
    """Finds people's poses in photos, by controlnet-aux's OpenPose, and those of toys by a network of their model.

    Loads the weights of either when they are first needed. May be used from any thread.
    """

    def __init__(self, weights: str = OPENPOSE_WEIGHTS, *, device: str = "cpu") -> None:
        """Name the weights (a folder or a Hub repository) and the torch device to detect on."""
        self._weights = weights
        self._device = device
        self._openpose: OpenposeDetector | None = None
        self._lock = threading.Lock()
        self._toy_readers: dict[Path, ToyReader] = {}
        # One of their own: toys are read in an instant, and shall not wait for OpenPose, which may be downloading.
        self._toy_lock = threading.Lock()

    def detect(self, photo: Image.Image, *, toy_reader: Path | None = None) -> Skeleton:
        """Find the toy character in a picture, or everybody in a photo.

        Args:
            photo: mode "RGB".
            toy_reader: weights of a network that reads toy characters, which looks first; None where only people are
                looked for.

        Raises:
            UserError: nobody is seen, or the detector's weights cannot be had; and what was tried before.
        """
        if toy_reader is None:
            return self._find_people(photo)
        toy = self._toy_reader(toy_reader).read(photo)
        if toy is not None:
            return Skeleton((toy,))
        try:
            return self._find_people(photo)
        except UserError as error:
            raise UserError(f"{_NO_TOY} {error}") from error

    def _toy_reader(self, file: Path) -> ToyReader:
        # Imported here: it brings torch, and the page must open at once.
        from ipa_app.pose.toy_reader import load_toy_reader

        with self._toy_lock:
            if file not in self._toy_readers:
                self._toy_readers[file] = load_toy_reader(file)
            return self._toy_readers[file]

    def _find_people(self, photo: Image.Image) -> Skeleton:
        with self._lock:
            if self._openpose is None:
                self._openpose = _load_openpose(self._weights, device=self._device)
            poses = self._openpose.detect_poses(np.asarray(_at_detect_resolution(photo)))
        return skeleton_from_poses(poses)


def skeleton_from_poses(poses: list[PoseResult]) -> Skeleton:
    """Turn controlnet-aux's detections into a skeleton.

    Raises:
        UserError: there are none.
    """
    people = [_person(pose) for pose in poses]
    people = [person for person in people if sum(point is not None for point in person) >= 2]
    if not people:
        raise UserError(
            "No person was found in this picture: please show a whole body, or use a skeleton picture or a preset."
        )
    return Skeleton(tuple(people))


def _person(pose: PoseResult) -> Person:
    return tuple(
        None if point is None else Keypoint(min(1.0, max(0.0, float(point.x))), min(1.0, max(0.0, float(point.y))))
        for point in pose.body.keypoints
    )


def _at_detect_resolution(photo: Image.Image) -> Image.Image:
    """Scale the shorter side to the detector's resolution, and the longer one to four times that at most."""
    scale = _DETECT_RESOLUTION / min(photo.size)
    width, height = (max(64, min(4 * _DETECT_RESOLUTION, round(side * scale / 64) * 64)) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.LANCZOS)


def _load_openpose(weights: str, *, device: str) -> OpenposeDetector:
    """Load the detector from a folder, the local cache or the Hub (unless HF_HUB_OFFLINE says not to ask)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # controlnet-aux registers models nobody asked for, and warns about each
        from controlnet_aux.open_pose import OpenposeDetector
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HTTPError  # HTTPError: of whichever client the Hub uses

    try:
        try:
            openpose = OpenposeDetector.from_pretrained(weights, local_files_only=True)
        except EntryNotFoundError:
            # One short question first: without a network a download gives up only after half a minute of retries.
            get_hf_file_metadata(hf_hub_url(weights, "body_pose_model.pth"), timeout=_HUB_TIMEOUT_S)
            openpose = OpenposeDetector.from_pretrained(weights)
    except (OSError, HTTPError, EntryNotFoundError) as error:
        raise UserError(
            "Poses cannot be read from photos here, because the pose detector's weights "
            f"({weights}) could not be found or downloaded: please use a skeleton picture or one of the presets."
        ) from error
    return openpose.to(device)
