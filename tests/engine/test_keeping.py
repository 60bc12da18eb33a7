"""Requests are kept until they are drawn, and results for good."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipa_app.engine import keeping, saving
from ipa_app.engine.engine import Engine
from ipa_app.engine.keeping import MOST_BEGUN, Keeper, KeptOrder, LibraryKeeper, Order
from ipa_app.engine.queue import Limits
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.series import Part
from ipa_app.errors import Cancelled, UserError
from ipa_app.imaging.result_files import read_settings
from ipa_app.library.deleted import new_deletion
from ipa_app.library.library import Library
from ipa_app.library.waiting import WaitingRecord
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, noise_picture, reference
from tests.sample_requests import differences
from tests.waiting import until


@contextmanager
def opened(folder: Path, *, shows: bool = True) -> Iterator[tuple[LibraryKeeper, Library]]:
    library = Library(folder)
    keeper = LibraryKeeper(library, shows=shows)
    try:
        yield keeper, library
    finally:
        keeper.close()


def order(*seeds: int, **changes: Any) -> Order:
    fields = {"task": "variation", "references": (reference(1),), "steps": 1, **changes}
    parts = tuple(Part(title="", request=GenerateRequest(seed=seed, **fields)) for seed in seeds)
    return Order(parts=parts, visitor="somebody", is_series=len(seeds) > 1)


def records(library: Library) -> list[WaitingRecord]:
    return library.waiting.records()


def files(library: Library) -> list[Path]:
    return sorted(library.pictures.folder.rglob("*.png"))


def draw(engine: Engine, kept: KeptOrder) -> None:
    for part, observer in zip(kept.order.parts, kept.observers, strict=True):
        engine.submit(part.request, observer=observer).result(TIMEOUT_S)


def test_an_order_is_kept_until_it_is_drawn_and_its_pictures_for_good(engine: Engine, tmp_path: Path) -> None:
    with opened(tmp_path) as (keeper, library):
        kept = keeper.keep(order(3, count=2))
        (record,) = records(library)
        assert (record.id, record.visitor, len(record.pictures)) == (kept.id, "somebody", 1)
        draw(engine, kept)
        assert kept.note() is None
        assert records(library) == []
        assert list((tmp_path / "waiting" / "pictures").iterdir()) == []
        assert [(read_settings(path) or {})["seed"] for path in files(library)] == [3, 4]
        assert keeper.shown is library.pictures
        assert set(library.pictures.newest(5)) == set(files(library))


def test_a_series_is_over_with_its_last_part_and_has_a_file_for_each(engine: Engine, tmp_path: Path) -> None:
    with opened(tmp_path) as (keeper, library):
        kept = keeper.keep(order(3, 3))
        part, observer = kept.order.parts[0], kept.observers[0]
        engine.submit(part.request, observer=observer).result(TIMEOUT_S)
        kept.note()
        assert len(records(library)) == len(files(library)) == 1
        engine.submit(part.request, observer=kept.observers[1]).result(TIMEOUT_S)
        kept.note()
        assert records(library) == []
        assert len(files(library)) == 2


def test_what_an_earlier_process_left_comes_back_in_its_order(tmp_path: Path) -> None:
    with opened(tmp_path) as (keeper, _):
        left = [keeper.keep(order(seed)) for seed in (5, 6)]
    with opened(tmp_path) as (keeper, _):
        back = keeper.left_over()
        assert [each.id for each in back] == [each.id for each in left]
        for one, other in zip(left, back, strict=True):
            assert differences(one.order.parts[0].request, other.order.parts[0].request) == []
            assert (other.order.visitor, other.refusal) == ("somebody", None)


def test_what_is_drawn_again_is_the_same_file_with_the_same_bytes(engine: Engine, tmp_path: Path) -> None:
    with opened(tmp_path) as (keeper, library):
        kept = keeper.keep(order(3))
        draw(engine, kept)
        kept.note()
        (path,) = files(library)
        before = path.read_bytes()
        path.write_bytes(b"")
        draw(engine, kept)
        kept.note()
        assert [each.read_bytes() for each in files(library)] == [before]


def test_an_order_that_ends_its_process_again_and_again_is_set_aside(tmp_path: Path) -> None:
    refusals = []
    for _ in range(MOST_BEGUN + 1):
        with opened(tmp_path) as (keeper, library):
            (kept,) = keeper.left_over() or [keeper.keep(order(3))]
            refusals.append(kept.refusal and str(kept.refusal))
            if kept.refusal is None:
                kept.observers[0].begun()
    aside = (
        "The app stopped three times while drawing this request, so it will not be tried again: please ask for fewer "
        "or smaller pictures."
    )
    assert refusals == [None, None, None, aside]
    with opened(tmp_path) as (keeper, library):
        assert list((tmp_path / "waiting" / "pictures").iterdir()) == []
        (kept,) = keeper.left_over()
        assert str(kept.refusal) == aside
        kept.drop()
        kept.note()
        assert records(library) == []


def test_only_what_was_being_drawn_when_its_process_died_is_drawn_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as (keeper, _):
        first, _ = (keeper.keep(order(*seeds)) for seeds in ((3, 4), (5,)))
        first.observers[1].begun()
    with opened(tmp_path) as (keeper, _):
        back = keeper.left_over()
        assert [[part.alone for part in kept.order.parts] for kept in back] == [[False, True], [False]]


def test_a_series_whose_parts_end_well_counts_no_attempts_and_comes_back_whole(engine: Engine, tmp_path: Path) -> None:
    with opened(tmp_path) as (keeper, _):
        keeper.keep(order(3, 4, 5))
    for _ in range(MOST_BEGUN + 1):
        with opened(tmp_path) as (keeper, library):
            (kept,) = keeper.left_over()
            assert [part.request.seed for part in kept.order.parts] == [3, 4, 5]
            for observer in kept.observers[1:]:
                observer.begun()
            engine.submit(kept.order.parts[0].request, observer=kept.observers[0]).result(TIMEOUT_S)
            kept.observers[1].failed(UserError("model.freed", name="a"))
            kept.observers[2].failed(Cancelled())
    with opened(tmp_path) as (keeper, library):
        (kept,) = keeper.left_over()
        assert kept.refusal is None
        draw(engine, kept)
        assert kept.note() is None
        assert records(library) == []
        assert sorted((read_settings(path) or {})["seed"] for path in files(library)) == [3, 4, 5]


@pytest.mark.parametrize("end", [Engine.close, lambda engine: engine.finish(0)], ids=["closed", "told to end"])
def test_a_process_that_ends_well_counts_no_attempt_and_keeps_what_waits(
    manager: ModelManager, tmp_path: Path, end: Callable[[Engine], None]
) -> None:
    engine = Engine(manager)
    with opened(tmp_path) as (keeper, library):
        first, other = (keeper.keep(order(seed, steps=100, count=8)) for seed in (3, 4))
        for kept in (first, other):
            engine.submit(kept.order.parts[0].request, observer=kept.observers[0])
        until(lambda: [record.begun for record in records(library)] == [(1,), (0,)])
        end(engine)
        until(lambda: [record.begun for record in records(library)] == [(0,), (0,)])
        assert files(library) == []
    engine.close()


def test_what_is_refused_is_not_kept_any_longer(engine: Engine, tmp_path: Path) -> None:
    with opened(tmp_path) as (keeper, library):
        kept = keeper.keep(order(3))
        kept.observers[0].failed(UserError("model.freed", name="a"))
        kept.note()
        assert records(library) == []


def test_what_cannot_be_read_any_more_is_said_and_stops_no_other(tmp_path: Path) -> None:
    with opened(tmp_path) as (keeper, library):
        keeper.keep(order(3))
        keeper.keep(order(4, references=(), task="mix", prompt="a cat"))
        (picture,) = (tmp_path / "waiting" / "pictures").iterdir()
        picture.write_bytes(picture.read_bytes()[:-30])
    with opened(tmp_path) as (keeper, library):
        damaged, good = keeper.left_over()
        assert str(damaged.refusal).startswith("What was saved of this request can no longer be read")
        assert good.refusal is None


def test_orders_taken_once_are_not_turned_away(manager: ModelManager) -> None:
    engine = Engine(manager, limits=Limits(total=1, each=1))
    long = GenerateRequest(task="mix", prompt="a cat", steps=100, count=8)
    jobs = [engine.submit(long, visitor="somebody", admitted=True) for _ in range(4)]
    with pytest.raises(UserError):
        engine.submit(long, visitor="somebody")
    engine.close()
    assert all(job.done for job in jobs)


def test_a_full_disk_is_said_and_pictures_are_written_when_there_is_room(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as (keeper, library):
        monkeypatch.setattr(saving, "AGAIN_S", 0.2)
        save = library.pictures.save

        def full(*_: object, **__: object) -> Path:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(library.pictures, "save", full)
        kept = keeper.keep(order(3))
        draw(engine, kept)
        assert str(kept.note()) == (
            "The library's disk is full, so these pictures are not kept there yet: please make room there; they are "
            "kept as soon as there is some."
        )
        kept.drop()
        kept.note()
        # A restart would draw the pictures again.
        assert len(records(library)) == 1
        monkeypatch.setattr(library.pictures, "save", save)
        until(lambda: kept.note() is None)
        assert len(files(library)) == 1
        assert records(library) == []


def test_with_a_full_disk_each_result_is_tried_once_until_a_while_has_passed(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "AGAIN_S", 3600.0)  # never retried during the test, however slow the machine is
    with opened(tmp_path) as (keeper, library):
        save, tried = library.pictures.save, list[str]()

        def full(*_: object, name: str, **__: object) -> Path:
            tried.append(name.split("-")[1])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(library.pictures, "save", full)
        for seed in (3, 4, 5):
            kept = keeper.keep(order(seed))
            draw(engine, kept)
            assert str(kept.note()).startswith("The library's disk is full")
        assert tried == ["3", "4", "5"]
        monkeypatch.setattr(library.pictures, "save", save)
    assert len(files(library)) == 3, "what there is room for is written at the end"


def test_a_bug_of_keeping_is_said_and_logged_and_stops_no_other_keeping(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path) as (keeper, library):
        remove = library.waiting.remove

        def broken(_: str) -> None:
            raise ZeroDivisionError("no such thing")

        monkeypatch.setattr(library.waiting, "remove", broken)
        kept = keeper.keep(order(3))
        draw(engine, kept)
        assert str(kept.note()).startswith("Something went wrong inside the app, so these pictures may not be kept")
        assert "ZeroDivisionError: no such thing" in caplog.text
        monkeypatch.setattr(library.waiting, "remove", remove)
        kept = keeper.keep(order(4))
        draw(engine, kept)
        assert kept.note() is None
        assert len(files(library)) == 2


def test_a_visitor_hears_of_trouble_with_their_own_pictures_alone(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as (keeper, library):
        save = library.pictures.save

        def failing(image: Image.Image, *, name: str, **values: Any) -> Path:
            if "-3-" in name:
                raise OSError(errno.ENOSPC, "No space left on device")
            if "-4-" in name:
                raise ZeroDivisionError("no such thing")
            return save(image, name=name, **values)

        monkeypatch.setattr(library.pictures, "save", failing)
        large, broken, small = (keeper.keep(order(seed)) for seed in (3, 4, 5))
        for kept in (large, broken, small):
            draw(engine, kept)
        assert str(large.note()).startswith("The library's disk is full")
        assert str(broken.note()).startswith("Something went wrong inside the app, so these pictures may not be kept")
        assert small.note() is None
        assert [record.id for record in records(library)] == [large.id]


def test_nobody_waits_long_for_a_disk_that_does_not_answer(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    with opened(tmp_path) as (keeper, library):
        save = library.pictures.save

        def hanging(*args: Any, **values: Any) -> Path:
            answered.wait(TIMEOUT_S)
            return save(*args, **values)

        monkeypatch.setattr(library.pictures, "save", hanging)
        kept = keeper.keep(order(3))
        draw(engine, kept)
        began = time.monotonic()
        assert str(kept.note()).startswith("These pictures are not kept in the library yet, as its disk takes long")
        assert time.monotonic() - began < 10
        answered.set()
        until(lambda: kept.note() is None)
        assert len(files(library)) == 1


def test_of_a_series_nothing_is_over_before_all_of_it_is_saved(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "AGAIN_S", 0.2)
    with opened(tmp_path) as (keeper, library):
        save, room = library.pictures.save, set[str]()

        def full(image: Image.Image, *, name: str, **values: Any) -> Path:
            if name.rsplit("-", 1)[1] not in room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return save(image, name=name, **values)

        monkeypatch.setattr(library.pictures, "save", full)
        kept = keeper.keep(order(3, 4))
        draw(engine, kept)
        room.add("1")
        until(lambda: len(files(library)) == 1)
        assert kept.note() is not None
        assert [record.id for record in records(library)] == [kept.id]
        room.add("2")
        until(lambda: kept.note() is None)
        assert (len(files(library)), records(library)) == (2, [])


def test_more_than_can_be_held_is_left_to_the_next_process(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "MOST_BYTES", 1)
    with opened(tmp_path) as (keeper, library):
        monkeypatch.setattr(saving, "AGAIN_S", 0.2)
        save = library.pictures.save

        def broken(*_: object, **__: object) -> Path:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(library.pictures, "save", broken)
        kept = [keeper.keep(order(seed)) for seed in (3, 4)]
        for each in kept:
            draw(engine, each)
        assert str(kept[0].note()).startswith("The library cannot be written to")
        monkeypatch.setattr(library.pictures, "save", save)
        until(lambda: kept[1].note() is None)
        assert str(kept[0].note()).startswith("The library cannot be written to"), "it is drawn again after a start"
        assert [record.id for record in records(library)] == [kept[0].id]
        assert len(files(library)) == 1


def test_pictures_are_shown_only_where_nobody_else_can_come(tmp_path: Path) -> None:
    with opened(tmp_path, shows=False) as (keeper, library):
        library.pictures.save(noise_picture(), name="a", made=1e9, settings={"output_format": "png"}, inputs={})
        assert keeper.shown is None


def test_without_a_library_nothing_is_written(engine: Engine) -> None:
    keeper = Keeper()
    kept = keeper.keep(order(3))
    draw(engine, kept)
    assert (kept.note(), keeper.left_over(), keeper.shown) == (None, [], None)


def test_what_was_deleted_long_ago_is_removed_while_the_app_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_DAY_S", 0.05)
    with opened(tmp_path):
        old = tmp_path / "deleted" / new_deletion().replace("1", "0", 1)
        old.mkdir(parents=True)
        new = old.with_name(new_deletion())
        new.mkdir()
        until(lambda: not old.exists())
        assert new.exists()
