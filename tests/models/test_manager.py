from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry, entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.tiny_models import tiny_fast_way

TIMEOUT_S = 120


@pytest.fixture
def two_models(tiny_bundle_dir: Path, other_bundle_dir: Path) -> Mapping[str, ModelEntry]:
    return {
        "one": entry_from_folder(tiny_bundle_dir, name="one"),
        "two": entry_from_folder(other_bundle_dir, name="two"),
    }


def test_a_model_goes_from_absent_over_loading_to_ready(two_models: Mapping[str, ModelEntry]) -> None:
    manager = ModelManager(two_models, device="cpu")
    assert manager.state("one").phase == "absent"
    manager.start("one")
    assert manager.state("one").phase in ("loading", "ready")
    model = manager.get("one", timeout=TIMEOUT_S)
    assert (manager.state("one").phase, manager.state("one").progress) == ("ready", 1.0)
    assert manager.get("one") is model
    assert {name: state.phase for name, state in manager.states().items()} == {"one": "ready", "two": "absent"}


def test_the_model_unused_for_longest_makes_room(two_models: Mapping[str, ModelEntry]) -> None:
    manager = ModelManager(two_models, device="cpu", max_resident=1)
    first = weakref.ref(manager.get("one", timeout=TIMEOUT_S))
    manager.get("two", timeout=TIMEOUT_S)
    assert manager.state("one").phase == "absent"
    gc.collect()
    assert first() is None


def test_more_models_stay_where_allowed(two_models: Mapping[str, ModelEntry]) -> None:
    manager = ModelManager(two_models, device="cpu", max_resident=2)
    for name in two_models:
        manager.get(name, timeout=TIMEOUT_S)
    assert {state.phase for state in manager.states().values()} == {"ready"}


def test_a_freed_model_can_be_had_again(two_models: Mapping[str, ModelEntry]) -> None:
    manager = ModelManager(two_models, device="cpu")
    model = manager.get("one", timeout=TIMEOUT_S)
    manager.free("one")
    assert manager.state("one").phase == "absent"
    assert manager.get("one", timeout=TIMEOUT_S) is not model


def test_waiting_ends_after_the_timeout(two_models: Mapping[str, ModelEntry]) -> None:
    with pytest.raises(TimeoutError):
        ModelManager(two_models, device="cpu").get("one", timeout=0.0)


@pytest.mark.parametrize("name", ["three", "../one", "", "x" * 1000])
def test_an_unknown_model_is_refused_with_those_there_are(two_models: Mapping[str, ModelEntry], name: str) -> None:
    manager = ModelManager(two_models, device="cpu")
    for ask in (manager.start, manager.get, manager.state, manager.free, manager.entry):
        with pytest.raises(UserError, match="choose from: one, two"):
            ask(name)


def test_a_failed_load_is_reported_leaves_nothing_and_can_be_retried(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[: len(good) // 2])
    manager = ModelManager({"model": entry_from_folder(folder, name="model")}, device="cpu")

    with pytest.raises(UserError, match="in unet is damaged or incomplete; please download it again"):
        manager.get("model", timeout=TIMEOUT_S)
    assert manager.state("model").phase == "failed"
    assert "is damaged or incomplete" in manager.state("model").message

    weights.write_bytes(good)
    manager.start("model")
    assert manager.get("model", timeout=TIMEOUT_S).entry.name == "model"
    assert manager.state("model").phase == "ready"


def cut_off(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def test_a_broken_model_leaves_the_working_one_where_it_is(
    two_models: Mapping[str, ModelEntry], tiny_bundle_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    entry = entry_from_folder(folder, name="broken")
    cut_off(folder)
    manager = ModelManager({**two_models, "broken": entry}, device="cpu")
    model = manager.get("one", timeout=TIMEOUT_S)
    for _ in range(2):
        manager.start("broken")
        with pytest.raises(UserError, match="is damaged or incomplete"):
            manager.get("broken", timeout=TIMEOUT_S)
        assert manager.state("one").phase == "ready"
    assert manager.get("one") is model


def test_a_model_that_would_not_fit_alone_either_leaves_the_working_one_where_it_is(
    two_models: Mapping[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = replace(two_models["two"], width=1024, height=1024)
    models = {"one": two_models["one"], "large": larger, "two": two_models["two"]}
    manager = ModelManager(models, device="cpu", exact=False)
    model = manager.get("one", timeout=TIMEOUT_S)
    monkeypatch.setattr("ipa_app.models.loading.free_bytes", lambda _device: 10**6)
    with pytest.raises(UserError, match="needs at least 0.8 GB"):
        manager.get("large", timeout=TIMEOUT_S)
    assert manager.get("one") is model

    # A model is loaded if it fits once the other has been evicted, even if both do not fit together.
    free = iter([10**6, 10**9])
    monkeypatch.setattr("ipa_app.models.loading.free_bytes", lambda _device: next(free))
    manager.get("two", timeout=TIMEOUT_S)
    assert manager.state("one").phase == "absent"


def test_where_memory_is_short_for_exact_pictures_the_model_is_refused(
    two_models: Mapping[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = replace(two_models["two"], width=1024, height=1024)
    monkeypatch.setattr("ipa_app.models.loading.free_bytes", lambda _device: 10**9)
    with pytest.raises(UserError, match=r"needs at least 1\.4 GB of memory, but only 1\.0 GB is free"):
        ModelManager({"two": large}, device="cpu", exact=True).get("two", timeout=TIMEOUT_S)
    assert ModelManager({"two": large}, device="cpu", exact=False).get("two", timeout=TIMEOUT_S)


def test_all_that_the_other_one_holds_counts_as_free_for_what_takes_its_place(
    two_models: Mapping[str, ModelEntry], tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(two_models["one"], fast=tiny_fast_way(tiny_bundle_dir))
    large = replace(two_models["two"], name="large", width=1024, height=1024)
    manager = ModelManager({"one": one, "large": large}, device="cpu", exact=False)
    monkeypatch.setattr("ipa_app.models.loading.free_bytes", lambda _device: 9 * 10**8)
    manager.get("large", timeout=TIMEOUT_S)
    least = manager.state("large").memory
    model = manager.get("one", timeout=TIMEOUT_S)
    model.fast.read()  # as on the first fast request; the LoRA is merged into a second UNet
    assert least is not None
    free = iter([least.needed - model.memory.needed - 1, 9 * 10**8])
    monkeypatch.setattr("ipa_app.models.loading.free_bytes", lambda _device: next(free))
    assert manager.get("large", timeout=TIMEOUT_S).entry.name == "large"


def test_what_nobody_holds_any_more_counts_as_free(
    two_models: Mapping[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {**two_models, "two": replace(two_models["two"], width=1024, height=1024)}
    manager = ModelManager(models, device="cpu", exact=False)
    manager.get("one", timeout=TIMEOUT_S)
    pictures = Unused()
    held = weakref.ref(pictures)
    monkeypatch.setattr("ipa_app.models.loading.free_bytes", lambda _device: 10**6 if held() else 10**9)
    gc.disable()
    try:
        del pictures
        assert manager.get("two", timeout=TIMEOUT_S)
    finally:
        gc.enable()


class Unused:
    """A large object in a reference cycle, which stays until it is garbage-collected."""

    def __init__(self) -> None:
        self.itself = self
