"""On a full disk the page says so, and what was drawn arrives once room is made."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from ipa_app.engine import saving
from ipa_app.engine.keeping import LibraryKeeper
from ipa_app.imaging.result_files import OutputFormat, read_settings, write_result
from ipa_app.library.library import Library
from ipa_app.ui.running import Runner
from ipa_app.ui.uploads import check_room
from tests.engine.conftest import TIMEOUT_S, noise_picture
from tests.ui.page_parts import inputs_after, opened_page
from tests.ui.serving import WatchedEngine, served_engine
from tests.waiting import until

SIZE = 2 * 2**20
MINUTE_S = 60.0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs to be allowed to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def app(tiny_bundle_dir: Path, disk: Path) -> Iterator[tuple[str, WatchedEngine]]:
    with served_engine(tiny_bundle_dir, temporary=disk / "served") as (url, engine):
        engine.manager.get("toybox", TIMEOUT_S)
        yield url, engine


@pytest.fixture
def filler(disk: Path) -> Iterator[Path]:
    """A file that fills the disk."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"0" * 2**12):
                pass
        except OSError:
            pass
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(("total", "spared"), [(10**12, 256 * 10**6), (10**9, 5 * 10**7)])
def test_uploads_leave_room_for_what_is_made(monkeypatch: pytest.MonkeyPatch, total: int, spared: int) -> None:
    def on_disk(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(total=total, free=free))

    on_disk(spared + 1000)
    check_room(1000)
    on_disk(spared + 999)
    with pytest.raises(OSError, match="No space left"):
        check_room(1000)


def test_an_upload_for_which_there_is_no_room(app: tuple[str, WatchedEngine]) -> None:
    answer = httpx.post(f"{app[0]}gradio_api/upload", files={"files": ("a.png", b"0" * 2 * SIZE)})
    assert answer.status_code == 507
    assert answer.text == "The app's disk is full: please make room there, then try again."


def test_results_for_which_there_is_no_room_can_be_had_again(app: tuple[str, WatchedEngine], filler: Path) -> None:
    client = Client(app[0], verbose=False, download_files=False)
    with pytest.raises(AppError) as refused:
        client.predict("a cat", seed=7, count=2, api_name="/mix")
    assert str(refused.value) == (
        "The app's disk is full, so the pictures could not be saved: please make room there, and ask again with seed "
        "7, which gives the same pictures."
    )
    assert not list(filler.parent.rglob("*.part"))
    filler.unlink()
    files, _ = client.predict("a cat", seed=7, count=2, api_name="/mix")
    assert len(files) == 2


def test_the_page_gets_what_was_drawn_when_it_is_loaded_anew(
    tiny_bundle_dir: Path, disk: Path, request: pytest.FixtureRequest
) -> None:
    with opened_page(tiny_bundle_dir, temporary=disk / "page") as (parts, studio):
        filler: Path = request.getfixturevalue("filler")
        runner = Runner(studio=studio, results=parts.results, tabs=parts.tabs)
        entered = inputs_after(parts, "mix", {parts.tab_of("mix").prompt: "a cat"})
        updates: list[dict[Any, Any]] = []
        with pytest.raises(Exception, match="disk is full"):
            updates.extend(update for update in runner.run("mix")(**entered))
        # The updates before the error were shown.
        kept, status = running_and_status(runner, entered)
        assert "reload this page" in status
        for timer in threading.enumerate():
            if isinstance(timer, threading.Timer) and timer.interval < MINUTE_S:
                timer.join()  # making room takes a while
        filler.unlink()
        *_, last = runner.resume(kept, [])
        assert len(last[parts.results.gallery]["value"]) == entered["count"]
        assert last[parts.results.running] == ""


def test_the_library_gets_what_was_drawn_when_there_is_room(
    tiny_bundle_dir: Path,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(saving, "AGAIN_S", 0.2)
    library = Library(disk / "library")
    filler: Path = request.getfixturevalue("filler")
    keeper = LibraryKeeper(library, shows=True)
    try:
        with opened_page(tiny_bundle_dir, temporary=tmp_path, keeper=keeper) as (parts, studio):
            runner = Runner(studio=studio, results=parts.results, tabs=parts.tabs)
            entered = inputs_after(parts, "mix", {parts.tab_of("mix").prompt: "a cat"})
            *_, last = runner.run("mix")(**entered)
            assert len(last[parts.results.gallery]["value"]) == entered["count"]
            assert "The library's disk is full, so these pictures are not kept" in last[parts.results.status]
            assert library.pictures.newest(8) == []
            filler.unlink()
            until(lambda: len(library.pictures.newest(8)) == entered["count"])
            assert keeper.has_caught_up()
            assert not [*library.waiting.records(), *library.folder.rglob("*.part")]
    finally:
        keeper.close()
        shutil.rmtree(library.folder)


def running_and_status(runner: Runner, entered: dict[str, Any]) -> tuple[Any, str]:
    """Return what the browser keeps and the page's status when drawing has failed."""
    kept, status = "null", ""
    updates = runner.run("mix")(**entered)
    while True:
        try:
            update = next(updates)
        except Exception:  # noqa: BLE001 - the message that comes with it was looked at above
            return json.loads(kept), status
        kept = update.get(runner.results.running, kept)
        status = update.get(runner.results.status, status)


@pytest.mark.parametrize("output_format", get_args(OutputFormat))
def test_half_of_a_file_is_not_left_behind(disk: Path, filler: Path, output_format: OutputFormat) -> None:
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 2**13)
    target = disk / "large"
    with pytest.raises(OSError, match="No space left"):
        write_result(Image.effect_noise((400, 400), 90), target, {"seed": 1}, output_format=output_format)
    assert [path.name for path in disk.iterdir() if path.name == target.name or path.suffix == ".part"] == []
    filler.unlink()
    write_result(noise_picture(), target, {"seed": 1}, output_format=output_format)
    assert read_settings(target) == json.loads('{"seed": 1}')
    target.unlink()
