"""Choosing a model that is not downloaded yet: what the page says, and which model requests use meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from ipa_app.engine.engine import Engine
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry
from ipa_app.models.manager import ModelManager
from ipa_app.models.state import MemoryUse, ModelState
from ipa_app.ui.model_choice import ModelChoice
from ipa_app.ui.offer import offer_html
from ipa_app.ui.page import lay_out
from ipa_app.ui.parts import Parts
from ipa_app.ui.studio import Studio
from tests.hub_fixtures import MOST, WEIGHTS
from tests.hub_server import FakeHub
from tests.waiting import until

FACTS = {
    "title": "Far & away",
    "about": "Draws <everything>.",
    "licence": "Open",
    "download_bytes": 6_100_000_000,
    "gpu_memory_gb": 6,
    "memory_gb": 14,
    "words": {"Animals": ("walrus",)},
}


@pytest.fixture
def far(hub_entry: Callable[..., ModelEntry]) -> ModelEntry:
    return replace(hub_entry(), **FACTS)


@pytest.fixture
def page(
    hub: FakeHub, far: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ModelChoice, Parts, ModelManager]]:
    """A page with one model that fails to load and one on the Hub."""

    def no_model(*_: object) -> None:
        raise UserError.plain("These files are no model.")

    monkeypatch.setattr(ModelManager, "_load_model", no_model)
    near = replace(entry_from_folder(tmp_path / "near", name="toybox"), title="Toybox")
    manager = ModelManager({"toybox": near, "far": far}, device="cpu")
    engine = Engine(manager)
    studio = Studio(engine=engine, manager=manager)
    with gr.Blocks(analytics_enabled=False):
        parts = lay_out(studio, examples=(), model="toybox")
        choice = ModelChoice(parts, studio=studio, timer=gr.Timer(1.0))
    yield choice, parts, manager
    manager.cancel("far")
    engine.close()


def visible(update: Any) -> bool:
    return update["visible"]


def test_an_absent_model_is_offered_and_the_one_before_stays_chosen(
    page: tuple[ModelChoice, Parts, ModelManager], hub: FakeHub
) -> None:
    choice, parts, manager = page
    offer = parts.settings.offer
    update = choice.choose("far", "toybox", "")
    assert update[parts.settings.model] == "toybox"
    assert offer.chosen not in update
    assert update[offer.model] == "far"
    assert visible(update[offer.column])
    assert "6.1 GB" in update[offer.text]
    assert (update[offer.download]["value"], visible(update[offer.download])) == ("Download and load", True)
    assert update[offer.dismiss]["value"] == "Not now"
    assert manager.state("far").phase == "absent"
    assert hub.asked == []
    assert not visible(choice.dismiss("far", "toybox")[offer.column])


def test_a_download_shows_how_far_it_is_and_can_be_cancelled(
    page: tuple[ModelChoice, Parts, ModelManager], hub: FakeHub
) -> None:
    choice, parts, manager = page
    offer = parts.settings.offer
    hub.held_after[WEIGHTS] = MOST
    update = choice.download("far", "toybox")
    assert not visible(update[offer.download])
    assert update[offer.dismiss]["value"] == "Cancel"
    until(lambda: manager.state("far").progress > 0.2)
    update = choice.look("toybox", "far")
    assert " of 6 MB" in update[offer.text]
    assert "Meanwhile, you can go on with Toybox" in update[offer.text]
    assert "downloading" in update[parts.pill]
    assert update[choice.timer].active
    update = choice.dismiss("far", "toybox")
    assert manager.state("far").phase == "absent"
    assert visible(update[offer.download])


def test_a_failed_download_says_why_and_toybox_stays(
    page: tuple[ModelChoice, Parts, ModelManager], hub: FakeHub
) -> None:
    choice, parts, manager = page
    offer = parts.settings.offer
    hub.refusals["maker/base"] = (401, "GatedRepo")
    choice.download("far", "toybox")
    until(lambda: manager.state("far").phase == "failed")
    update = choice.look("toybox", "far")
    assert "licence has to be accepted first" in update[offer.text]
    assert "Toybox stays chosen and goes on working." in update[offer.text]
    assert update[offer.download]["value"] == "Try again"
    assert parts.settings.model not in update


def test_a_model_on_offer_is_chosen_when_it_is_ready(
    page: tuple[ModelChoice, Parts, ModelManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    choice, parts, manager = page
    offer = parts.settings.offer
    use = MemoryUse(device="cpu", precision="half", needed=5 * 10**9, savings=("half",), free=6 * 10**9, wanted=10**10)
    model = SimpleNamespace(memory=use, scheduler="DDIMScheduler", precision="bfloat16")
    monkeypatch.setattr(ModelManager, "_load_model", lambda *_: model)
    choice.download("far", "toybox")
    until(lambda: manager.state("far").phase == "ready")
    update = choice.look("toybox", "far")
    assert update[parts.settings.model] == "far"
    assert not visible(update[offer.column])
    update = choice.choose("far", "toybox", "")
    assert update[offer.chosen] == "far"
    assert update[parts.words_panel]["visible"]
    assert "walrus" in update[parts.words]
    assert update[choice.timer].active, "it may have to be loaded anew, which is to be seen"
    update = choice.look("far", "")
    told = "Runs on the processor in half precision and takes about 5.0 GB of memory. Only 6.0 GB of the "
    assert told in update[parts.settings.memory]
    assert told in update[parts.pill]
    update = choice.choose("far", "toybox", "")
    assert "Draws &lt;everything&gt;." in update[parts.note]


def test_the_facts_are_plain_text(far: ModelEntry) -> None:
    shown = offer_html(far, ModelState(), meanwhile="Toy<box>")
    for told in ("Far &amp; away is not on this computer yet", "6.1 GB, once", "6 GB on a graphics card", "14 GB of"):
        assert told in shown
    failed = offer_html(far, ModelState(phase="failed", message=Message.plain("no <room>")), meanwhile="Toy<box>")
    assert "no &lt;room&gt;" in failed
    assert "Toy&lt;box&gt;" in failed


def test_programs_are_told_what_is_there(page: tuple[ModelChoice, Parts, ModelManager], hub: FakeHub) -> None:
    choice, _, manager = page
    models = Studio(engine=None, manager=manager).models()  # type: ignore[arg-type]
    assert models["far"]["downloaded"] is False
    assert models["far"]["download_bytes"] == 6_100_000_000
    assert models["toybox"]["downloaded"] is True


def test_programs_are_told_of_all_controlnets_and_why_one_cannot_be_used(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    shutil.copytree(folder / "controlnet", folder / "controlnets" / "control_v11f1p_sd15_depth")
    (folder / "controlnets" / "canny").mkdir()
    manager = ModelManager({"copy": entry_from_folder(folder, name="copy")}, device="cpu")
    model = Studio(engine=None, manager=manager).models()["copy"]  # type: ignore[arg-type]
    assert model["pose"]
    assert model["controlnets"] == {
        "pose": {"kind": "pose", "title": "Poses"},
        "depth": {"kind": "depth", "title": "Depth"},
    }
    assert model["controlnets_left_out"] == ["The ControlNet is missing: canny holds no config.json."]
