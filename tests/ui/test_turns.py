"""Large pictures are opened a few at a time, and not at all if there is no room for them."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.queue import Limits
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.imaging.opening import Opened
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.ui import form, turns
from ipa_app.ui.form import build_request
from ipa_app.ui.turns import opening_turn
from tests.engine.conftest import TIMEOUT_S
from tests.waiting import until

LARGE, SMALL = (3000, 2000), (300, 200)


class Opening:
    """Counts how many pictures are being opened at once, and holds each until told to go on."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.opened = 0
        self.go_on = threading.Event()
        self._lock = threading.Lock()

    def read_image(self, path: str, **_: Any) -> Opened:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        if Image.open(path).size == LARGE:
            assert self.go_on.wait(TIMEOUT_S)
        with self._lock:
            self.inside -= 1
            self.opened += 1
        return Opened(image=Image.new("RGB", SMALL))


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> Opening:
    found = Opening()
    monkeypatch.setattr(form, "read_image", found.read_image)
    return found


@pytest.fixture
def sent(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Forms with a large and with a small picture."""
    for name, size in (("large", LARGE), ("small", SMALL)):
        Image.new("1", size).save(tmp_path / f"{name}.png")
    return {name: {"reference": {"path": str(tmp_path / f"{name}.png")}} for name in ("large", "small")}


def test_two_large_pictures_are_opened_at_once_and_small_ones_beside_them(
    opening: Opening, sent: dict[str, dict[str, Any]]
) -> None:
    with ThreadPoolExecutor(8) as pool:
        try:
            large = [pool.submit(build_request, "variation", sent["large"]) for _ in range(6)]
            until(lambda: opening.inside == 2)
            assert pool.submit(build_request, "variation", sent["small"]).result(TIMEOUT_S).references
            assert not any(each.done() for each in large)
        finally:
            opening.go_on.set()
        assert all(each.result(TIMEOUT_S).references for each in large)
    assert opening.most == 3
    assert opening.opened == 7


def test_those_who_come_when_many_wait_are_told_so_at_once(
    opening: Opening, sent: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_room", threading.Semaphore(3))
    with ThreadPoolExecutor(4) as pool:
        jobs: list[Future[GenerateRequest]] = []
        try:
            jobs = [pool.submit(build_request, "variation", sent["large"]) for _ in range(4)]
            until(lambda: any(job.done() for job in jobs))
        finally:
            opening.go_on.set()
    refused = [job.exception() for job in jobs if job.exception()]
    assert [str(error) for error in refused] == [
        "Many large pictures are being opened right now: please try again in a minute."
    ]
    # The finished ones have made room.
    assert build_request("variation", sent["large"]).references


def test_pictures_for_which_there_is_no_room_are_not_opened(
    opening: Opening, sent: dict[str, dict[str, Any]], tiny_bundle_dir: Path
) -> None:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    engine = Engine(ModelManager({"toybox": entry}, device="cpu"), limits=Limits(megabytes=1))
    try:
        request = GenerateRequest(task="mix", prompt="a cat", steps=100)
        for _ in range(3):
            engine.submit(request)
        with pytest.raises(UserError, match="The app is busy"), opening_turn(sent["large"], engine=engine):
            build_request("variation", sent["large"])
        assert opening.opened == 0
        assert 'ipa_refused_total{reason="engine.busy"} 1.0' in engine.metrics.text().decode()
        with opening_turn(sent["small"], engine=engine):
            assert build_request("variation", sent["small"]).references
    finally:
        engine.close()
