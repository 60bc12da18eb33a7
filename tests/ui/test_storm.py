"""After a storm of visitors nothing is stuck, lost or left over."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.keeping import LibraryKeeper
from ipa_app.engine.queue import Limits
from ipa_app.engine.requests import GenerateRequest
from ipa_app.library.library import Library
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, pixels
from tests.ui.storm import WISHES, Storm, WatchedJobs, WatchedStudio
from tests.waiting import until

ROUNDS = 10
VISITORS = 6
MOST_GROWTH = 1.05


@pytest.fixture(scope="module")
def alone(tiny_bundle_dir: Path) -> Mapping[str, list[bytes]]:
    """The pixels of each request, drawn with no other visitors."""
    engine = Engine(ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu"))
    drawn = {
        name: pixels(engine.submit(GenerateRequest(**wish)).result(TIMEOUT_S))  # type: ignore[arg-type]
        for name, wish in WISHES.items()
    }
    engine.close()
    return drawn


@contextmanager
def opened(bundle: Path, library: Library) -> Iterator[tuple[WatchedStudio, WatchedJobs]]:
    """Yield a studio whose model is not loaded yet and whose queue is too short for all visitors, and its engine."""
    manager = ModelManager({"toybox": entry_from_folder(bundle, name="toybox")}, device="cpu")
    engine = WatchedJobs(manager, limits=Limits(total=3 * VISITORS, each=4))
    keeper = LibraryKeeper(library, shows=True)
    try:
        yield WatchedStudio(engine=engine, manager=manager, keeper=keeper), engine
    finally:
        engine.close()
        keeper.close()


def check_nothing_is_left(studio: WatchedStudio, engine: WatchedJobs, library: Library, *, threads: int) -> None:
    """Wait until all is quiet; a visitor's leaving is noticed within half a second."""
    until(lambda: len(engine.ends) == len(engine.submitted), "a job is stuck")
    until(lambda: not any(map(studio.knows, studio.asked)), "a job that nobody follows is remembered")
    assert engine.ends == Counter(dict.fromkeys(engine.submitted, 1))
    quiet = {b"ipa_waiting 0.0", b"ipa_drawing 0.0"}
    until(lambda: quiet <= set(engine.metrics.text().splitlines()), "a job is still counted")
    until(lambda: threading.active_count() <= threads, f"threads are left: {threading.enumerate()}")
    until(lambda: gc.collect() >= 0 and not engine.alive, "a job is still in memory")
    until(lambda: not library.waiting.records(), "a request waits in the library")
    # A record is deleted a moment before its pictures.
    until(lambda: not [*library.folder.glob("waiting/pictures/*")], "pictures of no request are kept")
    # Jobs that were drawn although stopped are written last.
    until(lambda: not [*library.folder.rglob("*.part")], "half of a file is left")


@pytest.mark.parametrize("actions", [36, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_a_storm(
    actions: int,
    tiny_bundle_dir: Path,
    alone: Mapping[str, list[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    before, memory, got = threading.active_count(), list[int](), Counter[str]()
    rounds = 1 if actions < ROUNDS * VISITORS * 2 else ROUNDS
    for number in range(rounds):
        library = Library(tmp_path / f"library-{number}")
        with opened(tiny_bundle_dir, library) as (studio, engine):
            storm = Storm(studio=studio, alone=alone, got=got)
            storm.rage(actions // rounds, visitors=VISITORS, seed=number)
            assert storm.wrong == []
            # The engine's thread and the library's.
            check_nothing_is_left(studio, engine, library, threads=before + 2)
        memory.append(psutil.Process().memory_info().rss)
    assert not list((tmp_path / "served").rglob("*.part"))
    assert sum(got.values()) == actions // rounds // VISITORS * VISITORS * rounds
    print(f"\n{actions} actions; MB after each round: {[size // 2**20 for size in memory]}; {sorted(got.items())}")
    assert memory[-1] <= MOST_GROWTH * memory[len(memory) // 5]
