"""The whole app over a tiny random model, served on a free port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.keeping import Keeper
from ipa_app.messages import Language
from ipa_app.models.adapter_set import AdapterSet
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry
from ipa_app.models.manager import ModelManager
from ipa_app.ui.examples import Example
from ipa_app.ui.operations import operator_routes
from ipa_app.ui.page import build_page
from ipa_app.ui.studio import Studio
from ipa_app.ui.theme import CSS_FILE, build_theme


class WatchedEngine(Engine):
    """An engine that keeps a list of the submitted jobs, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.jobs: list[Job] = []
        super().__init__(*args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Job:
        job = super().submit(*args, **kwargs)
        self.jobs.append(job)
        return job


@contextmanager
def served(bundle: Path, **options: Any) -> Iterator[str]:
    """Serve the app as `served_engine` does, and yield its address."""
    with served_engine(bundle, **options) as (url, _):
        yield url


@contextmanager
def served_engine(
    bundle: Path,
    *,
    temporary: Path | None = None,
    examples: Sequence[Example] = (),
    others: Sequence[ModelEntry] = (),
    adapters: AdapterSet | None = None,
    languages: Mapping[str, Language] | None = None,
    keeper: Keeper | None = None,
    device: str = "cpu",
    **launch: Any,
) -> Iterator[tuple[str, WatchedEngine]]:
    """Serve the app with `bundle` as its model "toybox", plus others and adapters; yield its address and engine.

    Models are loaded to `device`. Results are kept by `keeper`, by default nowhere. The page is offered in `languages`,
    by default all there are. Uploads and results lie in `temporary`, by default in the folder all tests share. Other
    arguments go to Gradio's `launch`.
    """
    with pytest.MonkeyPatch.context() as patch:
        if temporary:
            patch.setenv("GRADIO_TEMP_DIR", str(temporary))
        entries = [entry_from_folder(bundle, name="toybox"), *others]
        manager = ModelManager({entry.name: entry for entry in entries}, device=device, adapters=adapters)
        engine = WatchedEngine(manager)
        studio = Studio(engine=engine, manager=manager, keeper=keeper)
        page = build_page(studio, examples=examples, languages=languages)
        routes = operator_routes(engine, model="toybox")
        ours = {"theme": build_theme(), "css_paths": [CSS_FILE], "app_kwargs": {"routes": routes}}
        try:
            with served_page(page, **ours, **launch) as url:
                manager.start("toybox")
                yield url, engine
        finally:
            engine.close()


@contextmanager
def served_page(page: gr.Blocks, **launch: Any) -> Iterator[str]:
    """Serve a page here and yield its address; other arguments go to Gradio's `launch`."""
    with pytest.MonkeyPatch.context() as patch:
        # Gradio gives a new server three seconds to answer, once; a busy machine needs more, and the tests retry.
        patch.setattr("gradio.networking.url_ok", lambda _url: True)
        usual = {"prevent_thread_lock": True, "quiet": True, "server_name": "127.0.0.1"}
        _, url, _ = page.queue().launch(ssr_mode=False, run_history=False, **{**usual, **launch})
    try:
        yield url
    finally:
        page.close(verbose=False)
