"""A remote device with several slots: which requests are drawn side by side, and which give way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipa_app.engine.device import LocalDevice
from ipa_app.engine.engine import Engine
from ipa_app.engine.observable import InternalError
from ipa_app.engine.remote import Events, Refusal, RemoteDevice, draw_remotely
from ipa_app.engine.requests import GenerateRequest
from ipa_app.messages import Message
from ipa_app.models.entry import AdapterEntry
from ipa_app.models.manager import ModelManager
from ipa_app.pose.detect import PoseDetector
from tests.adapter_files import write_adapter
from tests.engine.conftest import TIMEOUT_S, Generate, drawing, pixels, reference
from tests.engine.test_turns import SINGLE
from tests.tiny_models import random_adapter_tensors, tiny_unet

LONG = {**SINGLE, "steps": 100, "seed": 3}


@pytest.fixture
def two_places(manager: ModelManager) -> Iterator[Engine]:
    """Yield an engine that draws two requests at once, both in this process."""
    detector = PoseDetector()

    def draw(request: GenerateRequest, *, adapter: AdapterEntry | None, previews: bool) -> Events:
        model = manager.get(request.model)
        yield None
        yield from draw_remotely(
            request, adapter=adapter, previews=previews, model=model, detector=detector, exact=True
        )

    engine = Engine(manager, device=RemoteDevice(draw, places=2, offers_live=True))
    yield engine
    engine.close()


def test_as_many_are_drawn_at_once_as_there_are_places(two_places: Engine) -> None:
    first, second = (drawing(two_places.submit(GenerateRequest(**LONG))) for _ in range(2))
    third = two_places.submit(GenerateRequest(**SINGLE))
    assert third.position == 2
    first.cancel()
    assert third.result(TIMEOUT_S).images
    second.cancel()


def test_a_live_picture_gives_way_only_where_no_place_is_free(two_places: Engine, generate: Generate) -> None:
    live = drawing(two_places.submit(GenerateRequest(**LONG), visitor="a", live=True))
    beside = drawing(two_places.submit(GenerateRequest(**LONG), visitor="b"))
    assert not live.gives_way
    with two_places._changed:  # otherwise the live request might stop giving way first
        single = two_places.submit(GenerateRequest(**SINGLE), visitor="c")
        assert live.gives_way
    assert single.result(TIMEOUT_S).images
    beside.cancel()
    assert pixels(live.result(TIMEOUT_S)) == pixels(generate(**LONG))


def test_only_as_many_live_pictures_give_way_as_there_are_others(two_places: Engine) -> None:
    live = [drawing(two_places.submit(GenerateRequest(**LONG), visitor=who, live=True)) for who in ("a", "b")]
    with two_places._changed:
        other = two_places.submit(GenerateRequest(**LONG), visitor="c")
        assert [job.gives_way for job in live] == [False, True]
    with two_places._changed:
        another = two_places.submit(GenerateRequest(**LONG), visitor="d")
        assert live[0].gives_way
    for job in (other, another):
        job.cancel()
    for job in live:
        assert job.result(TIMEOUT_S).images


@pytest.mark.parametrize("fields", [{}, {"references": (reference(2),), "scale": 0.0}], ids=["words", "scale 0"])
def test_an_adapter_that_was_added_may_be_asked_for_where_no_reference_counts(
    two_places: Engine, manager: ModelManager, generate: Generate, tmp_path: Path, fields: dict[str, Any]
) -> None:
    file = write_adapter(tmp_path / "toys.safetensors", random_adapter_tensors(tiny_unet(), kind="full"))
    key = manager.adapters.add(file, entry=manager.entry("toybox"))
    wish = {**SINGLE, **fields, "seed": 3, "adapter": key}
    try:
        there = two_places.submit(GenerateRequest(**wish)).result(TIMEOUT_S)
        assert pixels(there) == pixels(generate(**wish))
        assert there.settings["adapter"] == "toys"
    finally:
        manager.adapters.remove([key])  # other tests share the manager


def test_what_cannot_be_planned_in_the_other_process_is_refused_by_it(manager: ModelManager) -> None:
    events = draw_remotely(
        GenerateRequest(**SINGLE, seed=3, adapter="toys~gone"),
        adapter=None,
        previews=False,
        model=manager.get("toybox"),
        detector=PoseDetector(),
        exact=True,
    )
    (refusal,) = events
    assert isinstance(refusal, Refusal)
    assert refusal.message.key == "model.adapter_gone"


def test_what_a_place_breaks_is_that_requests_alone(manager: ModelManager, caplog: pytest.LogCaptureFixture) -> None:
    broken = threading.Event()

    def draw(request: GenerateRequest, *, adapter: AdapterEntry | None, previews: bool) -> Events:
        yield None
        if not broken.is_set():
            broken.set()
            raise RuntimeError("the line broke")
        model, detector = manager.get(request.model), PoseDetector()
        yield from draw_remotely(
            request, adapter=adapter, previews=previews, model=model, detector=detector, exact=True
        )

    engine = Engine(manager, device=RemoteDevice(draw))
    with pytest.raises(Exception, match="Something went wrong inside the app"):
        engine.submit(GenerateRequest(**SINGLE)).result(TIMEOUT_S)
    assert engine.submit(GenerateRequest(**SINGLE)).result(TIMEOUT_S).images
    assert "the line broke" in caplog.text
    engine.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_one_thread_ends_the_others_begin_nothing_more(manager: ModelManager) -> None:
    free, submitted, begun = threading.Event(), threading.Event(), list[int]()

    def draw(request: GenerateRequest, *, adapter: AdapterEntry | None, previews: bool) -> Events:
        begun.append(request.seed or 0)
        if request.seed == 1:
            submitted.wait(TIMEOUT_S)
            raise SystemExit
        while not free.is_set():
            yield None
        yield Refusal(Message("engine.closing"))

    engine = Engine(manager, device=RemoteDevice(draw, places=2))
    beside = engine.submit(GenerateRequest(**{**SINGLE, "seed": 2}))
    while not begun:
        threading.Event().wait(0.01)
    jobs = [engine.submit(GenerateRequest(**{**SINGLE, "seed": seed})) for seed in (1, 3)]
    submitted.set()
    for job in (*jobs, beside):
        with pytest.raises(InternalError):
            job.result(TIMEOUT_S)
    assert "ipa_waiting 0.0" in engine.metrics.text().decode()
    free.set()
    engine.close()
    assert begun == [2, 1]


def test_an_engine_draws_here_unless_it_is_told_otherwise(engine: Engine) -> None:
    assert isinstance(engine.device, LocalDevice)
    assert (engine.device.trouble, list(engine.device.reports())) == (None, [])
