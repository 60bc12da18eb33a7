"""Poses from photos: the detector's files are downloaded like models, and only those that are needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.engine.tasks.pose_search import PoseSearch, cancellable
from ipa_app.errors import Cancelled, UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.detectors import detectors
from ipa_app.pose.draw import fit_skeleton_picture
from ipa_app.pose.presets import preset_pictures, preset_sheets
from ipa_app.pose.skeleton import Skeleton
from tests.engine.conftest import TIMEOUT_S, noise_picture
from tests.hub_fixtures import cache, point_at  # noqa: F401 - fixtures are found by being here
from tests.hub_server import FakeHub, serving
from tests.pose_files import NAMES, REPO, openpose_files, pin_to_the_tests_hub
from tests.waiting import until

BODY, HAND, FACE = NAMES
# Half of the body detector's file of three megabytes, which is read one megabyte at a time.
HALF = 3 * 2**19
PHOTO = noise_picture(size=(96, 64))
SOMEBODY = next(iter(preset_sheets().values())).skeleton


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return openpose_files()


@pytest.fixture
def hub(cache: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:  # noqa: F811
    pin_to_the_tests_hub(monkeypatch)
    with serving(FakeHub({REPO: {**files, "other.pth": b"nobody needs this"}})) as served:
        point_at(served, monkeypatch)
        yield served


@pytest.fixture
def engine(tiny_bundle_dir: Path) -> Iterator[Engine]:
    engine = Engine(ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu"))
    yield engine
    engine.close()


def look(engine: Engine, **options: bool) -> PoseSearch:
    return engine.find_pose(PHOTO, model="toybox", options=PoseOptions(**options))


def told(search: PoseSearch) -> list[str]:
    """Return all messages of a search that ends without finding anybody."""
    said: list[str] = []
    with pytest.raises(UserError, match="No person was found"):
        for event in search.events():
            assert isinstance(event, Progress)
            said.append(event.message)
    return said


def test_only_what_is_needed_is_downloaded_and_only_once(engine: Engine, hub: FakeHub) -> None:
    said = told(look(engine))
    assert set(hub.sent) == {BODY}
    downloading = [words for words in said if words.startswith("downloading OpenPose: ")]
    assert downloading[0] == "downloading OpenPose: asking the Hub for the files"
    assert "3 of 3 MB" in downloading[-1]
    assert said[-1] == "looking for people"
    told(look(engine, pose_hands=True, pose_face=True))
    assert set(hub.sent) == {BODY, HAND, FACE}
    assert hub.sent[BODY] == len(hub.repos[REPO][BODY])
    asked = len(hub.asked)
    assert told(look(engine, pose_hands=True)) == ["looking at the pictures"]
    assert len(hub.asked) == asked


def test_a_search_that_is_stopped_keeps_what_has_arrived(engine: Engine, hub: FakeHub) -> None:
    hub.held_after[BODY] = HALF
    search = look(engine)
    with pytest.raises(Cancelled):
        for event in search.events():
            if isinstance(event, Progress) and " of 3 MB" in event.message and event.step > 0:
                search.cancel()
    hub.goes_on.set()
    told(look(engine))
    begun = [first for path, first in hub.begun if path == BODY]
    assert begun[0] == 0 < begun[1]


def test_a_job_tells_of_the_download_and_can_be_stopped_in_it(engine: Engine, hub: FakeHub) -> None:
    hub.held_after[BODY] = HALF
    job = engine.submit(GenerateRequest(task="pose", pose=PHOTO))
    seen = []
    with pytest.raises(Cancelled):
        for event in job.events():
            if isinstance(event, Progress) and event.message.startswith("downloading OpenPose: ") and event.step > 0:
                seen.append(event)
                job.cancel()
    assert (seen[0].phase, seen[0].steps) == ("loading", 100)
    hub.goes_on.set()
    with pytest.raises(UserError, match="No person was found"):
        engine.submit(GenerateRequest(task="pose", pose=PHOTO)).result(TIMEOUT_S)


def downloading(job: Job) -> Job:
    """Return the job as soon as it is downloading."""
    next(event for event in job.events() if isinstance(event, Progress) and event.message.startswith("downloading"))
    return job


def test_pictures_of_others_are_drawn_during_a_download(engine: Engine, hub: FakeHub) -> None:
    hub.held_after[BODY] = HALF
    job = downloading(engine.submit(GenerateRequest(task="pose", pose=PHOTO)))
    for _ in range(2):  # of one visitor, each in a turn of its own
        engine.submit(GenerateRequest(task="mix", prompt="a dog", steps=2), visitor="other").result(TIMEOUT_S)
    assert not job.done
    hub.goes_on.set()
    with pytest.raises(UserError, match="No person was found"):
        job.result(TIMEOUT_S)


def test_what_goes_into_one_batch_is_drawn_during_a_download_and_what_takes_more_is_not(
    tiny_bundle_dir: Path, hub: FakeHub
) -> None:
    manager = ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    engine, wish = Engine(manager, batch_limit=3), {"task": "mix", "prompt": "a dog", "steps": 2}
    manager.get("toybox", TIMEOUT_S)
    hub.held_after[BODY] = HALF
    try:
        searching = downloading(engine.submit(GenerateRequest(task="pose", pose=PHOTO, steps=2)))
        more = engine.submit(GenerateRequest(**wish, count=4))
        three, part = engine.submit(GenerateRequest(**wish, count=3)), engine.submit(GenerateRequest(**wish), bulk=True)
        for job in (three, part):
            assert job.result(TIMEOUT_S).images
        assert not searching.done
        assert not more.done
        hub.goes_on.set()
        with pytest.raises(UserError, match="No person was found"):
            searching.result(TIMEOUT_S)
        assert more.result(TIMEOUT_S).images
    finally:
        engine.close()


def test_nobody_is_drawn_beside_who_has_to_search_first(tiny_bundle_dir: Path, hub: FakeHub) -> None:
    manager = ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    engine, skeleton = Engine(manager, batch_limit=8), next(iter(preset_sheets().values()))
    manager.get("toybox", TIMEOUT_S)
    hub.held_after[BODY] = HALF
    try:
        with engine._changed:  # so that both are queued before the first one starts
            sure = engine.submit(GenerateRequest(task="pose", pose=skeleton, steps=2), visitor="sure")
            searching = engine.submit(GenerateRequest(task="pose", pose=PHOTO, steps=2), visitor="searching")
        sure.result(TIMEOUT_S)
        assert not searching.done
        downloading(searching)
        engine.submit(GenerateRequest(task="pose", pose=skeleton, steps=2), visitor="sure").result(TIMEOUT_S)
        assert not searching.done
    finally:
        engine.close()


def test_offline_is_told_in_one_sentence(engine: Engine, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="^OpenPose is not on this computer, and downloading is.*please"):
        look(engine).result(TIMEOUT_S)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.refusals[REPO] = (503, "")
    with pytest.raises(UserError, match=f"^{REPO} could not be downloaded: .*please try again later.$"):
        look(engine).result(TIMEOUT_S)


def test_a_file_that_spoiled_on_the_disk_is_fetched_again(tiny_bundle_dir: Path, hub: FakeHub, cache: Path) -> None:  # noqa: F811
    for _ in range(2):
        engine = Engine(ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu"))
        told(look(engine))
        engine.close()
        for blob in cache.glob("models--*/blobs/*"):
            blob.write_bytes(b"spoiled")
    assert hub.sent[BODY] == 2 * len(hub.repos[REPO][BODY])


def test_the_pose_is_seen_before_it_is_used(engine: Engine) -> None:
    skeleton = Image.open(preset_pictures()["waving"]).convert("RGB")
    request = GenerateRequest(task="pose", pose=skeleton, prompt="a cat", steps=2)
    # While another request waits, no previews of the drawing are sent.
    job, other = engine.submit(request, previews=True), engine.submit(request)
    previews = [event.preview for event in job.events() if isinstance(event, Progress) and event.preview is not None]
    plan = job.plan
    assert [preview.tobytes() for preview in previews] == [fit_skeleton_picture(skeleton, plan.canvas_size).tobytes()]
    other.result(TIMEOUT_S)


@pytest.mark.skipif("dwpose" in detectors(), reason="DWPose is installed here")
def test_a_detector_that_is_not_installed_is_told(engine: Engine) -> None:
    search = engine.find_pose(PHOTO, model="toybox", options=PoseOptions(pose_detector="dwpose"))
    with pytest.raises(UserError, match="not installed here: please install it"):
        search.result(TIMEOUT_S)


def test_looking_for_people_can_be_given_up_at_once() -> None:
    begun, found = threading.Event(), threading.Event()

    def find(_photo: Image.Image) -> Skeleton:
        begun.set()
        found.wait(TIMEOUT_S)
        return SOMEBODY

    def check_cancelled() -> None:
        if begun.is_set():
            raise Cancelled

    with pytest.raises(Cancelled):
        cancellable(find, check_cancelled)(PHOTO)
    assert not found.is_set()
    found.set()


def test_searches_that_are_given_up_end_at_once_and_hold_nobody_up(
    engine: Engine,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told(look(engine))
    people, begun, go_on, searched = engine._detector._people["openpose"], threading.Event(), threading.Event(), []
    find = people.find

    def slow(photo: Image.Image, options: PoseOptions) -> list[Any]:
        searched.append(photo)
        begun.set()
        go_on.wait(TIMEOUT_S)
        return find(photo, options)

    monkeypatch.setattr(people, "find", slow)
    given_up = [look(engine) for _ in range(4)]
    begun.wait(TIMEOUT_S)
    for search in given_up:
        search.cancel()
        with pytest.raises(Cancelled):
            search.result(10)
    last = look(engine)
    go_on.set()
    assert told(last)
    assert len(searched) == 2


def test_a_live_picture_that_gives_way_again_and_again_is_searched_for_once_more_and_not_each_time(
    engine: Engine, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(look(engine))
    people, go_on, searched = engine._detector._people["openpose"], threading.Event(), []
    before = set(threading.enumerate())  # some of these threads may be about to end

    def slow(photo: Image.Image, _options: PoseOptions) -> list[Any]:
        searched.append(photo)
        go_on.wait(TIMEOUT_S)
        return []

    def searches() -> int:
        return sum(each.name == "pose-search" for each in set(threading.enumerate()) - before)

    monkeypatch.setattr(people, "find", slow)
    live = engine.submit(GenerateRequest(task="pose", pose=PHOTO), visitor="live", live=True)
    for number in range(1, 5):
        until(lambda number=number: searches() == number)
        engine.submit(GenerateRequest(task="mix", prompt="a dog", steps=1), visitor="other").result(TIMEOUT_S)
    go_on.set()
    with pytest.raises(UserError, match="No person was found"):
        live.result(TIMEOUT_S)
    assert len(searched) == 2


def test_what_the_search_comes_to_is_passed_on() -> None:
    def fail(_photo: Image.Image) -> Skeleton:
        raise UserError.plain("Nobody is there.")

    assert cancellable(lambda _: SOMEBODY, lambda: None)(PHOTO) is SOMEBODY
    with pytest.raises(UserError, match="Nobody is there"):
        cancellable(fail, lambda: None)(PHOTO)
