"""Finding poses in photos: the detectors of `pose` with their weights from the Hub, which `models` fetches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING

from ipa_app.engine.observable import Observable
from ipa_app.engine.results import Progress
from ipa_app.messages import Message
from ipa_app.models.entry import HubFiles, HubPart
from ipa_app.models.fetching import check_cancel
from ipa_app.models.hub import ensure_downloaded
from ipa_app.pose.detect import FindPeople, PoseDetector, find_pose
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.detectors import DETECTORS
from ipa_app.pose.sheet import PoseSheet

if TYPE_CHECKING:
    from PIL import Image

    from ipa_app.pose.skeleton import Skeleton


_LOOK_EVERY_S = 0.1


def people_finder(
    detector: PoseDetector,
    options: PoseOptions,
    *,
    toy_reader: Path | None,
    emit: Callable[[Progress], None],
    stop: threading.Event,
) -> FindPeople:
    """Return a function that finds people in photos, fetching the weights that it needs.

    Args:
        detector: finds them.
        options: how they are detected.
        toy_reader: weights of the model's network that reads toy characters, if it has one.
        emit: called with the progress.
        stop: when set, ends a download soon, and prevents any further search.
    """

    def report(share: float, words: Message) -> None:
        message = Message("doing.downloading", title=weights_of(options).title, doing=words)
        emit(Progress(phase="loading", step=int(share * 100), steps=100, message=message))

    def weights(options: PoseOptions) -> Mapping[str, Path]:
        files = ensure_downloaded(weights_of(options), report=report, cancel=stop)
        emit(Progress(phase="encoding", message=Message("doing.looking_for_people")))
        return files

    def find(photo: Image.Image) -> Skeleton:
        return detector.detect(
            photo, weights=weights, options=options, toy_reader=toy_reader, check_cancelled=lambda: check_cancel(stop)
        )

    return find


def cancellable(find: FindPeople, check_cancelled: Callable[[], None]) -> FindPeople:
    """Make a search cancellable at once.

    Detecting people takes seconds and cannot be interrupted: an abandoned search goes on in its own thread.

    Args:
        find: finds people.
        check_cancelled: called several times a second; raises to give up.
    """

    def find_or_give_up(photo: Image.Image) -> Skeleton:
        found: Future[Skeleton] = Future()
        threading.Thread(target=_settle, args=(found, find, photo), name="pose-search", daemon=True).start()
        while not found.done():
            since = time.monotonic()
            check_cancelled()  # may draw others meanwhile
            wait([found], timeout=max(0.0, since + _LOOK_EVERY_S - time.monotonic()))
        return found.result()

    return find_or_give_up


def _settle(found: Future[Skeleton], find: FindPeople, photo: Image.Image) -> None:
    try:
        found.set_result(find(photo))
    except BaseException as error:  # noqa: BLE001 - raised again when the result is requested
        found.set_exception(error)


def weights_of(options: PoseOptions) -> HubFiles:
    """Return the weights that a detector needs."""
    detector = DETECTORS[options.pose_detector]
    files = {name: name for name in detector.files_for(options)}
    part = HubPart(repo=detector.repo, revision=detector.revision, files=files, pickles=detector.pickles)
    return HubFiles(title=detector.title, parts=(part,))


class PoseSearch(Observable[PoseSheet]):
    """The search for the pose in a picture, in a thread of its own."""

    def __init__(
        self, photo: Image.Image, *, detector: PoseDetector, options: PoseOptions, toy_reader: Path | None
    ) -> None:
        """Start the search.

        Args:
            photo: mode "RGB".
            detector: finds the pose.
            options: how people are detected.
            toy_reader: as for `people_finder`.
        """
        super().__init__()
        finder = people_finder(detector, options, toy_reader=toy_reader, emit=self.emit, stop=self.stop)
        threading.Thread(target=self._look, args=(photo, finder), name="pose-search", daemon=True).start()

    def _look(self, photo: Image.Image, finder: FindPeople) -> None:
        with self.owning_errors():
            self.emit(Progress(phase="encoding", message=Message("doing.looking_at_pictures")))
            sheet = find_pose(photo, find=cancellable(finder, self.check_cancelled))
            self.check_cancelled()
            self.finish(sheet)
