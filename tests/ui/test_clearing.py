"""Visitors' uploads and results are deleted after a day, and nothing else is."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from ipa_app.engine.references import Reference
from ipa_app.engine.requests import GenerateRequest
from ipa_app.ui import clearing
from ipa_app.ui.clearing import KEPT_S, begin_clearing, clear_away
from ipa_app.ui.studio import save_pictures, save_zip
from tests.ui.serving import WatchedEngine
from tests.waiting import until

NAME = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
MADE = "0123456789abcdef" * 2


@pytest.fixture
def a_day_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock forward, so that files made now count as old."""
    now = time.time
    monkeypatch.setattr(clearing.time, "time", lambda: now() + KEPT_S + 60)


def made(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a picture", encoding="utf-8")
    return paths


@pytest.mark.usefixtures("a_day_later")
def test_what_an_earlier_process_left_goes_with_its_folder(tmp_path: Path) -> None:
    made(tmp_path, f"{NAME}/picture.png", f"{NAME}/.picture.png.abc", f"{OTHER}/other.png", "tmpab12cd_9")
    made(tmp_path, f"job-{MADE}-3/mix-5.png", f"zip-{MADE}/pictures.zip")
    (tmp_path / ("a" * 64)).mkdir()
    clear_away(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_of_today_stays_however_old_what_it_was_copied_from_is(tmp_path: Path) -> None:
    paths = made(tmp_path, f"{NAME}/picture.png", "tmpab12cd_9")
    for path in paths:
        os.utime(path, (0, 0))
    (tmp_path / OTHER).mkdir()
    clear_away(tmp_path)
    assert all(path.exists() for path in paths)
    assert (tmp_path / OTHER).exists()


@pytest.mark.usefixtures("a_day_later")
def test_the_pictures_that_an_earlier_process_made_go_and_what_they_were_packed_in(
    served_app: tuple[str, WatchedEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = served_app[1]
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    reference = Reference(image=Image.new("RGB", (8, 8), (200, 30, 30)))
    job = engine.submit(GenerateRequest(task="variation", references=(reference,), steps=1, count=2))
    paths = save_pictures(job.result(), job_id=f"{job.id}-1")
    save_zip(paths)
    clear_away(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("a_day_later")
def test_what_is_not_gradios_is_not_touched(tmp_path: Path) -> None:
    theirs = made(
        tmp_path / "cache",
        "notes.txt",
        "deep_links/a/state.json",
        f"{NAME.upper()}/a.png",
        f"{NAME}/folder/a.png",
        "job-interview/a.png",
        "zip-holidays/a.zip",
    )
    outside = made(tmp_path, "outside/picture.png")
    (tmp_path / "cache" / OTHER).symlink_to(tmp_path / "outside", target_is_directory=True)
    (tmp_path / "cache" / NAME / "link.png").symlink_to(outside[0])
    clear_away(tmp_path / "cache")
    assert all(path.exists() for path in (*theirs, *outside, tmp_path / "cache" / NAME / "link.png"))
    clear_away(tmp_path / "missing")


@pytest.mark.usefixtures("a_day_later")
def test_in_a_folder_for_all_programs_only_gradios_folders_are_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    *loose, kept = made(
        tmp_path, "tmpab12cd_9", f"job-{MADE}/mix-5.png", f"zip-{MADE}/pictures.zip", f"{NAME}/picture.png"
    )
    clear_away(tmp_path)
    assert all(path.exists() for path in loose)
    assert not kept.exists()


def test_a_folder_that_is_gone_meanwhile_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As happens when two processes clear the same folder at once."""
    paths = made(tmp_path, f"{NAME}/picture.png", f"{OTHER}/picture.png")
    usual = clearing._entries

    def raced(folder: Path) -> object:
        entries = list(usual(folder))
        if folder == tmp_path:
            paths[0].unlink()
            paths[0].parent.rmdir()
        return iter(entries)

    monkeypatch.setattr(clearing, "_entries", raced)
    clear_away(tmp_path, older_than_s=-60)
    assert list(tmp_path.iterdir()) == []


def test_the_app_clears_as_it_begins_and_keeps_what_its_page_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(cache))
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Image(str(tmp_path / "picture.png"))
    (own,) = (path for path in cache.rglob("*") if path.is_file())
    (old,) = made(cache, f"{NAME}/picture.png")
    # Kept files are touched, so they are never old; a very short age makes only the other file old.
    monkeypatch.setattr(clear_away, "__kwdefaults__", {"kept": (), "older_than_s": 0.2})
    time.sleep(0.4)
    begin_clearing(page)
    until(lambda: not old.exists())
    assert own.exists()
