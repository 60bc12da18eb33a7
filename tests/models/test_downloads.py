"""The manager and models from the Hub: what is downloaded when, and what remains after a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models import loading
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry
from ipa_app.models.manager import ModelManager
from ipa_app.models.state import ModelState
from tests.hub_fixtures import ADAPTER, MOST, WEIGHTS, point_at, real_files
from tests.hub_server import FakeHub, serving
from tests.waiting import until

TIMEOUT_S = 120
Make = Callable[..., ModelEntry]


@pytest.fixture
def manager(hub: FakeHub, hub_entry: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelManager:
    """Return a manager of a model from the Hub and one in an empty folder; loading always fails."""

    def no_model(*_: object) -> None:
        raise UserError.plain("These files are no model.")

    monkeypatch.setattr(ModelManager, "_load_model", no_model)
    return ModelManager({"far": hub_entry(), "near": entry_from_folder(tmp_path, name="near")}, device="cpu")


def test_nothing_is_downloaded_by_asking_for_it(manager: ModelManager, hub: FakeHub) -> None:
    assert manager.needs_download("far")
    assert not manager.needs_download("near")
    for ask in (manager.check_available, manager.start, manager.get):
        with pytest.raises(UserError, match="Far is not on this computer yet: please download it first"):
            ask("far")
    assert manager.state("far") == ModelState()
    assert hub.asked == []


def test_a_request_for_it_is_refused_at_once(manager: ModelManager, hub: FakeHub) -> None:
    engine = Engine(manager)
    request = GenerateRequest(task="mix", prompt="a cat", model="far")
    with pytest.raises(UserError, match="please download it first"):
        engine.submit(request)
    hub.held_after[WEIGHTS] = 0
    manager.download("far")
    with pytest.raises(UserError, match="Far is still being downloaded"):
        engine.submit(request)
    manager.cancel("far")
    engine.close()


def test_a_download_tells_how_far_it_is_and_can_be_stopped(manager: ModelManager, hub: FakeHub) -> None:
    hub.held_after[WEIGHTS] = MOST
    manager.download("far")
    until(lambda: manager.state("far").progress > 0.3)
    state = manager.state("far")
    assert state.phase == "downloading"
    assert " of 6 MB" in state.message
    manager.cancel("far")
    assert manager.state("far") == ModelState()
    assert manager.needs_download("far")
    hub.goes_on.set()
    manager.download("far")
    until(lambda: not manager.needs_download("far"))
    assert hub.begun[-1][1] == 0
    assert any(begin > 0 for _, begin in hub.begun)


def test_stopping_what_is_not_being_downloaded_does_nothing(manager: ModelManager) -> None:
    manager.cancel("far")
    manager.cancel("near")
    assert set(manager.states().values()) == {ModelState()}
    with pytest.raises(UserError, match="choose from: far, near"):
        manager.cancel("other")


def test_a_failed_download_says_why_and_can_be_tried_again(manager: ModelManager, hub: FakeHub) -> None:
    hub.refusals["maker/adapters"] = (401, "GatedRepo")
    manager.download("far")
    until(lambda: manager.state("far").phase == "failed")
    assert "licence has to be accepted first" in manager.state("far").message
    del hub.refusals["maker/adapters"]
    hub.held_after[ADAPTER] = 0
    manager.download("far")
    assert manager.state("far").phase == "downloading"
    hub.goes_on.set()
    until(lambda: not manager.needs_download("far"))


def test_a_model_is_downloaded_loaded_and_mended(
    real_entry: ModelEntry, cache: Path, tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(FakeHub({"maker/real": real_files(tiny_bundle_dir)})) as hub:
        point_at(hub, monkeypatch)
        manager = ModelManager({"real": real_entry}, device="cpu")
        manager.download("real")
        model = manager.get("real", timeout=TIMEOUT_S)
        assert all(adapter in model.adapters for adapter in model.entry.adapters.values())
        assert manager.state("real").phase == "ready"
        manager.free("real")
        spoiled = max((cache / "models--maker--real" / "blobs").iterdir(), key=lambda path: path.stat().st_size)
        whole = spoiled.read_bytes()
        spoiled.write_bytes(whole[: len(whole) // 2] + b"?" + whole[len(whole) // 2 + 1 :])
        hub.begun.clear()
        manager.get("real", timeout=TIMEOUT_S)
        assert spoiled.read_bytes() == whole
        assert len(hub.begun) == 1
    # The Hub is gone: the cache is enough.
    manager.free("real")
    assert manager.get("real", timeout=TIMEOUT_S).entry.name == "real"


def checked(cache: Path) -> str:
    """Return the record of files that have been verified."""
    return (cache.parent / "assets" / "ip-adapter-studio" / "checked.json").read_text()


def test_what_does_not_fit_into_memory_is_not_read_through_again(
    real_entry: ModelEntry, cache: Path, tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(FakeHub({"maker/real": real_files(tiny_bundle_dir)})) as hub:
        point_at(hub, monkeypatch)
        manager = ModelManager({"real": real_entry}, device="cpu")
        with monkeypatch.context() as short:
            short.setattr(loading, "free_bytes", lambda _: 1)
            manager.download("real")
            with pytest.raises(UserError, match="memory"):
                manager.get("real", timeout=TIMEOUT_S)
        assert len(json.loads(checked(cache))) == len(list((cache / "models--maker--real" / "blobs").iterdir()))
        manager.start("real")
        assert manager.get("real", timeout=TIMEOUT_S)


@pytest.mark.parametrize("can_be_noted", [True, False])
def test_what_cannot_be_loaded_is_read_through_again_and_said_to_have_failed(
    real_entry: ModelEntry,
    cache: Path,
    tiny_bundle_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    can_be_noted: bool,
) -> None:
    def broken(_: ModelEntry) -> None:
        raise PermissionError("not yours")

    if not can_be_noted:
        monkeypatch.setattr("ipa_app.models.manager.invalidate", broken)
    content = real_files(tiny_bundle_dir)
    content["unet/config.json"] = b"no JSON"
    with serving(FakeHub({"maker/real": content})) as hub:
        point_at(hub, monkeypatch)
        manager = ModelManager({"real": real_entry}, device="cpu")
        manager.download("real")
        with pytest.raises(UserError):
            manager.get("real", timeout=TIMEOUT_S)
        assert manager.state("real").phase == "failed"
        assert (json.loads(checked(cache)) == {}) == can_be_noted


def test_another_model_draws_while_one_is_downloaded(hub: FakeHub, hub_entry: Make, tiny_bundle_dir: Path) -> None:
    hub.held_after[WEIGHTS] = 0
    both = ModelManager({"far": hub_entry(), "toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    engine = Engine(both)
    both.get("toybox", timeout=TIMEOUT_S)
    both.download("far")
    result = engine.submit(GenerateRequest(task="mix", prompt="a cat")).result(TIMEOUT_S)
    assert len(result.images) == 1
    assert both.state("far").phase == "downloading"
    both.cancel("far")
    assert both.state("toybox").phase == "ready"
    engine.close()
