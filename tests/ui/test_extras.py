"""More like this, strips, comparisons, downloads and the history, as the page's handlers answer them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from ipa_app.imaging.result_files import read_settings
from ipa_app.ui.orders import SERIES
from ipa_app.ui.parts import Parts
from ipa_app.ui.results import LONGEST_HISTORY, Turn, remember, show_picked
from ipa_app.ui.running import Runner
from tests.engine.conftest import noise_picture
from tests.ui.page_parts import Opened, inputs_after


@pytest.fixture
def entered(page: Opened, tmp_path: Path) -> dict[str, Any]:
    """What the variation tab sends with a picture given and a count of 2."""
    parts, _ = page
    noise_picture(3).save(tmp_path / "reference.png")
    update = {parts.panel.references.slots[0].image: str(tmp_path / "reference.png"), parts.settings.inputs["count"]: 2}
    return inputs_after(parts, "variation", update)


def shown_files(parts: Parts, update: dict[Any, Any]) -> list[str]:
    return [path for path, _ in update[parts.results.gallery]["value"]]


def test_a_strip_is_one_row_of_five_strengths_on_one_seed(
    page: Opened, runner: Runner, entered: dict[str, Any]
) -> None:
    parts, _ = page
    *_, last = runner.run("variation", SERIES["scale-strip"])(**entered)
    gallery = last[parts.results.gallery]
    assert gallery["columns"] == 5
    assert [caption for _, caption in gallery["value"]] == ["0", "0.25", "0.5", "0.75", "1"]
    noted = [read_settings(path) or {} for path in shown_files(parts, last)]
    assert [settings["scale"] for settings in noted] == [0, 0.25, 0.5, 0.75, 1]
    assert len({settings["seed"] for settings in noted}) == 1
    assert len({Path(path).read_bytes() for path in shown_files(parts, last)}) == 5


def test_base_and_fine_lie_on_each_other(page: Opened, runner: Runner, entered: dict[str, Any]) -> None:
    parts, _ = page
    *_, last = runner.run("variation", SERIES["both-adapters"])(**entered)
    compared = last[parts.results.compared]
    assert compared["visible"]
    noted = [read_settings(path) or {} for path in compared["value"]]
    assert [settings["adapter"] for settings in noted] == ["base", "fine"]
    assert noted[0]["seed"] == noted[1]["seed"]


def test_stop_ends_a_series_and_the_page_is_ready_again(page: Opened, runner: Runner, entered: dict[str, Any]) -> None:
    parts, _ = page
    turn = Turn()
    last: dict[Any, Any] = {}
    for update in runner.run("variation", SERIES["scale-strip"])(**{**entered, "steps": 100, "turn": turn}):
        if "1 of 5" in str(update.get(parts.results.status)):
            runner.stop(turn)
        last = update
    assert "Stopped." in last[parts.results.status]
    assert all(last[button]["interactive"] for button in runner.generate_buttons)


def test_a_failing_series_says_why(page: Opened, runner: Runner, entered: dict[str, Any]) -> None:
    parts, _ = page
    updates = []
    with pytest.raises(gr.Error, match="reference"):
        updates.extend(runner.run("variation", SERIES["scale-strip"])(**{**entered, "reference": None}))
    assert parts.results.gallery not in {name for update in updates for name in update}


def test_all_pictures_come_in_one_zip(page: Opened, runner: Runner, entered: dict[str, Any]) -> None:
    parts, _ = page
    *_, last = runner.run("variation")(**{**entered, "seed": 5})
    with zipfile.ZipFile(last[parts.results.download]["value"]) as archive:
        assert archive.namelist() == ["1-variation-5.png", "2-variation-6.png"]
        assert archive.read("2-variation-6.png") == Path(shown_files(parts, last)[1]).read_bytes()
    *_, single = runner.run("variation")(**{**entered, "count": 1, "seed": 5})
    assert single[parts.results.download]["value"] == shown_files(parts, single)[0]


def test_a_picked_picture_shows_its_own_settings(page: Opened, runner: Runner, entered: dict[str, Any]) -> None:
    parts, _ = page
    *_, last = runner.run("variation")(**{**entered, "seed": 5})
    assert last[parts.results.settings]["seed"] == 5
    picked = show_picked(parts.results, shown_files(parts, last), index=1)
    assert picked[parts.results.settings]["seed"] == 6
    assert "seed 6" in picked[parts.results.picked_note]
    assert picked[parts.results.picked] == shown_files(parts, last)[1]


def test_the_history_has_the_latest_first_and_forgets_the_oldest(
    page: Opened, runner: Runner, entered: dict[str, Any]
) -> None:
    parts, _ = page
    *_, last = runner.run("variation")(**{**entered, "history": ["before.png"]})
    assert last[parts.results.history] == [*shown_files(parts, last), "before.png"]
    kept = remember(parts.results, [f"{index}.png" for index in range(40)], ["new.png"])[parts.results.history]
    assert (len(kept), kept[0], kept[-1]) == (LONGEST_HISTORY, "new.png", f"{LONGEST_HISTORY - 2}.png")


def test_weights_count(page: Opened, runner: Runner, entered: dict[str, Any], tmp_path: Path) -> None:
    parts, _ = page
    noise_picture(4).save(tmp_path / "second.png")
    both = {**entered, "count": 1, "seed": 1, "reference_3": {"path": str(tmp_path / "second.png")}}
    files = []
    for weight in (1, 0.2):
        *_, last = runner.run("variation")(**{**both, "weight_3": weight})
        files.append(shown_files(parts, last)[0])
    noted = [(read_settings(path) or {})["references"] for path in files]
    assert [[each["weight"] for each in references] for references in noted] == [[1, 1], [1, 0.2]]
    assert Path(files[0]).read_bytes() != Path(files[1]).read_bytes()


def test_a_set_seed_is_told_and_given_up_beside_the_pictures(
    page: Opened, runner: Runner, entered: dict[str, Any]
) -> None:
    parts, _ = page
    results = parts.results
    *_, last = runner.run("variation")(**{**entered, "seed": 5})
    assert "The seed 5 is set" in last[results.status]
    assert last[results.new_seed]["visible"]
    *_, last = runner.run("variation")(**{**entered, "seed": -1})
    assert "is set" not in last[results.status]
    assert not last[results.new_seed]["visible"]
