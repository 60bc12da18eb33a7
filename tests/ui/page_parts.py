"""The page's parts without a browser: what its handlers receive, and what they return."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.keeping import Keeper
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry
from ipa_app.models.manager import ModelManager
from ipa_app.ui.page import lay_out
from ipa_app.ui.parts import Parts
from ipa_app.ui.studio import Studio
from tests.sample_requests import PRESETS, STYLES
from tests.tiny_models import tiny_fast_way

Opened = tuple[Parts, Studio]
Update = Mapping[Any, Any]


@contextmanager
def opened_page(
    bundle: Path, *, temporary: Path | None = None, keeper: Keeper | None = None, others: Sequence[ModelEntry] = ()
) -> Iterator[tuple[Parts, Studio]]:
    """Yield the parts and the studio of a page with two models: "toybox", and "other" with presets and a fast way.

    `others` adds more models.
    """
    with pytest.MonkeyPatch.context() as patch:
        if temporary:
            patch.setenv("GRADIO_TEMP_DIR", str(temporary))
        other = replace(entry_from_folder(bundle, name="other"), presets=PRESETS, styles=STYLES)
        other = replace(other, fast=tiny_fast_way(bundle, steps=2))
        entries = [entry_from_folder(bundle, name="toybox"), other, *others]
        manager = ModelManager({entry.name: entry for entry in entries}, device="cpu")
        engine = Engine(manager)
        studio = Studio(engine=engine, manager=manager, keeper=keeper)
        with gr.Blocks(analytics_enabled=False):
            parts = lay_out(studio, examples=(), model="toybox")
        yield parts, studio
        engine.close()


def value_after(component: Any, update: Update) -> Any:
    """Return a component's value after an update, as its handlers receive it: pictures as uploaded files."""
    value = update.get(component, component.value)
    if isinstance(value, dict) and value.get("__type__") == "update":
        value = value.get("value", component.value)
    return {"path": value} if isinstance(component, gr.Image) and isinstance(value, str) else value


def inputs_after(parts: Parts, task: str, update: Update) -> dict[str, Any]:
    """Return what a tab's Generate button sends after an update of a freshly opened page."""
    inputs = parts.inputs_of(parts.tab_of(task))
    return {name: value_after(part, update) for name, part in inputs.items()}


def picture_in(html: str) -> Image.Image:
    """Return the first picture embedded in the page's HTML."""
    found = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert found
    return Image.open(io.BytesIO(base64.b64decode(found[1])))
