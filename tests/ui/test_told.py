"""What the page says about a job and a model: how memory is used, and what a safety checker withheld."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.engine.results import GenerateResult, notice
from ipa_app.imaging.result_files import read_settings
from ipa_app.messages import Message
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.state import MemoryUse
from ipa_app.ui.about import memory_note, memory_text
from ipa_app.ui.orders import SERIES
from ipa_app.ui.running import Runner, done_text
from tests.engine.conftest import TIMEOUT_S
from tests.ui.page_parts import Opened, inputs_after

GB = 10**9


@pytest.fixture
def model(page: Opened) -> LoadedModel:
    return page[1].manager.get("toybox", timeout=TIMEOUT_S)


@pytest.fixture
def entered(page: Opened) -> dict[str, Any]:
    parts, _ = page
    update = {
        parts.settings.inputs["steps"]: 1,
        parts.settings.seed: 7,
        parts.settings.inputs["count"]: 4,
        parts.settings.model: "toybox",
    }
    return inputs_after(parts, "mix", {**update, parts.tab_of("mix").prompt: "a cat"})


def drawn(runner: Runner, entered: dict[str, Any]) -> Mapping[Any, Any]:
    *_, last = runner.run("mix")(**entered)
    return last


def withhold(monkeypatch: pytest.MonkeyPatch, model: LoadedModel, *, every: int) -> None:
    """Install a safety checker that flags every `every`-th picture."""
    numbers = itertools.count(1)
    checker = SimpleNamespace(flags=lambda _: next(numbers) % every == 0)
    # LoadedModel is a frozen dataclass.
    monkeypatch.setitem(vars(model), "safety", checker)


def test_withheld_pictures_are_counted_and_named_and_neither_shown_nor_saved(
    runner: Runner, model: LoadedModel, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [path for path, _ in drawn(runner, entered)[runner.results.gallery]["value"]]
    originals = [np.asarray(Image.open(path)) for path in free]
    withhold(monkeypatch, model, every=2)
    last = drawn(runner, entered)
    assert ">2 pictures in " in last[runner.results.status]
    assert "2 were withheld, because" in last[runner.results.status]
    assert "(seeds 8, 10)" in last[runner.results.status]
    paths, captions = zip(*last[runner.results.gallery]["value"], strict=True)
    assert list(captions) == ["seed 7", "withheld (seed 8)", "seed 9", "withheld (seed 10)"]
    words = np.asarray(notice(originals[0].shape[1::-1]))
    for index, path in enumerate(paths):
        shown = np.asarray(Image.open(path))
        assert np.array_equal(shown, words if index % 2 else originals[index])
        assert (read_settings(path) or {})["withheld"] == [8, 10]
    with zipfile.ZipFile(last[runner.results.download]["value"]) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [Path(path).read_bytes() for path in paths]


def test_one_withheld_picture_is_told_in_the_singular(
    runner: Runner, model: LoadedModel, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    withhold(monkeypatch, model, every=2)
    status = drawn(runner, {**entered, "count": 2})[runner.results.status]
    assert "One picture in " in status
    assert "One was withheld, because" in status
    assert "(seed 8)" in status
    assert "withheld" not in drawn(runner, {**entered, "count": 1})[runner.results.status]


def test_a_comparison_of_which_one_is_withheld_shows_the_other(
    page: Opened, runner: Runner, model: LoadedModel, entered: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    withhold(monkeypatch, model, every=2)
    parts, _ = page
    *_, last = runner.run("mix", SERIES["both-adapters"])(**entered)
    assert [caption for _, caption in last[parts.results.gallery]["value"]] == ["Base", "Fine-grained: withheld"]
    assert not last[parts.results.compared]["visible"]
    assert ">One picture in " in last[parts.results.status]
    assert last[parts.results.status].count("One was withheld, because") == 1


def test_how_an_input_was_understood_is_told_once_with_the_pictures_of_a_series() -> None:
    result = GenerateResult(
        images=(),
        seeds=(7,),
        settings={},
        notes=(Message.plain("The mask was turned."), Message.plain("The pose is small.")),
    )
    text = " ".join(
        done_text([result, result], seconds=1, order=SERIES["both-adapters"], series=["Base", "Fine-grained"])
    )
    assert text.endswith(" 2 pictures in 1.0 seconds. The mask was turned. The pose is small.")


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("precision", ["single", "half"])
def test_it_is_told_where_a_model_runs(device: Any, precision: Any) -> None:
    text = " ".join(memory_text(MemoryUse(device=device, precision=precision, needed=2_340_000_000)))
    assert f"{precision} precision and takes about 2.3 GB" in text
    assert "free" not in text


@pytest.mark.parametrize("savings", [("half",), ("tiled",), ("half", "tiled"), ("offload", "tiled")])
def test_it_is_told_what_short_memory_led_to(savings: Any) -> None:
    use = MemoryUse(device="cuda", precision="half", needed=3 * GB, savings=savings, free=5_100_000_000, wanted=9 * GB)
    assert memory_text(use)[1].startswith("Only 5.1 GB of the 9.0 GB it needs were free, so ")


def test_nothing_is_told_of_the_memory_of_a_model_that_is_not_there() -> None:
    assert memory_note(None) == ""
