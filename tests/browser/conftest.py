"""The app in a real browser: Chromium with software WebGL for the mask editor; the page itself is drawn without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from PIL import Image, ImageDraw

from bench import tour
from ipa_app.engine.job import Job
from ipa_app.engine.results import Progress
from ipa_app.ui.examples import Example
from tests.browser.hands import PATIENCE_MS, watch
from tests.ui.serving import served


@pytest.fixture(scope="session")
def reference_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 300 x 200 pixels: a circle on one colour."""
    path = tmp_path_factory.mktemp("reference") / "circle.png"
    image = Image.new("RGB", (300, 200), (120, 190, 230))
    ImageDraw.Draw(image).ellipse((100, 50, 200, 150), fill=(230, 120, 60))
    image.save(path)
    return path


@pytest.fixture(scope="session")
def page_url(tiny_bundle_dir: Path, reference_file: Path) -> Iterator[str]:
    example = Example(tab="variation", file=reference_file)
    with served(tiny_bundle_dir, examples=[example]) as url:
        yield url


@pytest.fixture(scope="module")  # its event loop runs in this thread, where tests of other modules must not meet it
def chromium() -> Iterator[Any]:
    if tour.CHROMIUM is None:
        pytest.skip("needs chromium on the PATH")
    pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with tour.chromium() as started:
        yield started


@pytest.fixture
def open_page(chromium: Any, page_url: str) -> Iterator[Callable[..., Any]]:
    """Open the page; at the end of the test, fail if it had errors or sent requests off this machine."""
    problems: list[str] = []
    contexts = []

    def open_one(
        *,
        width: int = 1440,
        height: int = 900,
        dark: bool = False,
        locale: str = "en-US",
        touch: bool = False,
        prepare: Callable[[Any], object] | None = None,
    ) -> Any:
        scheme = "dark" if dark else "light"
        size = {"width": width, "height": height}
        context = chromium.new_context(
            viewport=size, color_scheme=scheme, locale=locale, has_touch=touch, is_mobile=touch
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        watch(page)
        if prepare:
            prepare(page)
        page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
        page.on("console", lambda said: problems.append(said.text) if _is_error(said) else None)
        page.on("request", lambda request: _note_outside(request.url, page_url, problems))
        page.on("response", lambda got: problems.append(f"{got.status} {got.url}") if got.status >= 400 else None)
        page.goto(page_url)
        page.wait_for_selector("#variation-generate")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def may_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Hold every job at the first decoding of a picture until this event is set or the job is cancelled."""
    may_end, emit = Event(), Job.emit

    def held(job: Job, progress: Progress) -> None:
        while progress.phase == "decoding" and not (may_end.is_set() or job.cancelled):
            may_end.wait(0.05)
        emit(job, progress)

    monkeypatch.setattr(Job, "emit", held)
    yield may_end
    may_end.set()


@pytest.fixture
def shoot(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that saves a screenshot in the folder IPA_SHOTS names, and does nothing if that is unset."""
    if not (named := os.environ.get("IPA_SHOTS")):
        return lambda *_args: None
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)

    def save(page: Any, name: str = "") -> None:
        stem = "-".join(filter(None, (request.node.name, name)))
        page.screenshot(path=folder / f"{stem}.png", full_page=True, timeout=PATIENCE_MS)

    return save


_BROKEN_OFF = "Unexpected error Connection errored out"


def _is_error(said: Any) -> bool:
    # Gradio's client reports requests that a reload breaks off.
    return said.type == "error" and not said.text.startswith(("AbortError", "Connection errored out", _BROKEN_OFF))


def _note_outside(url: str, home: str, problems: list[str]) -> None:
    if not url.startswith((home, "data:", "blob:")):
        problems.append(f"request to {url}")
