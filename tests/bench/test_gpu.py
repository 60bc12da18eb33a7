"""The GPU check, rehearsed on the processor with narrow models, so that it works once a GPU is available."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import gpu, shape_exact
from bench.gpu_parts import PARTS, Run
from tests.bench.test_shape_exact import draw_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the narrow models are built, once for all parts."""
    return tmp_path_factory.mktemp("gpu")


def found_by(part: str, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    PARTS[part].run(Run(folder, device="cpu", tiny=True, note=found.update))
    return found


def test_the_pictures_come_before_the_speed() -> None:
    assert list(PARTS) == ["tests", "sd15", "sdxl", "memory", "speed", "compiled"]
    assert all(part.limit_s <= 180 for part in PARTS.values())


def test_the_tests_for_a_gpu_are_found(tmp_path: Path) -> None:
    found = found_by("tests", tmp_path)
    assert found["right"] is True
    assert "passed" in found["pytest"][0] or "skipped" in found["pytest"][0]


@pytest.mark.slow
def test_the_app_is_as_close_to_single_precision_as_plain_diffusers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape_exact, "_run", draw_here)
    found = found_by("sd15", folder)
    assert found["right"] is True
    assert found["figures"].keys() == {"app", "diffusers", "single"}
    assert found["differences"]["app"].keys() == set(shape_exact.COMPARED)


@pytest.mark.parametrize(("ours", "theirs", "close"), [(0.04, 0.0, True), (3.7, 3.0, True), (0.6, 0.36, False)])
def test_half_precision_may_round_but_not_err(ours: float, theirs: float, close: bool) -> None:
    assert shape_exact.is_as_close(ours, theirs) is close


@pytest.mark.parametrize("file", sorted(gpu.RESULTS.glob("*.json")), ids=lambda file: file.stem)
def test_what_was_found_right_is_right_still(file: Path) -> None:
    for found in json.loads(file.read_text("utf-8"))["parts"].values():
        if "differences" in found:
            ours, theirs = (found["differences"][who] for who in ("app", "diffusers"))
            assert all(shape_exact.is_as_close(ours[task], theirs[task]) for task in theirs) is found["right"]


@pytest.mark.slow
def test_a_model_draws_the_same_however_it_is_held(folder: Path) -> None:
    found = found_by("memory", folder)
    assert found["right"] is True
    assert [way.get("mean_difference") for way in found["ways"]] == [None, 0.0, 0.0]
    assert all(way["needed"] > 0 for way in found["ways"])


@pytest.mark.slow
def test_every_row_of_the_speed_is_measured(folder: Path) -> None:
    rows = found_by("speed", folder)["rows"]
    assert [row["row"] for row in rows][::4] == ["a picture after a reference", "2 pictures in one batch"]
    assert all(row["ours_s"] > 0 and row["other_s"] > 0 for row in rows)


@pytest.mark.slow
def test_what_is_compiled_is_counted(folder: Path) -> None:
    found = found_by("compiled", folder)
    assert found["graphs"] == 1
    assert found["compiled_anew"] <= 1  # when the number of tokens first changes, but not for another scale
    assert len(found["rows"]) == 1


def test_a_part_that_takes_too_long_is_ended_and_the_next_one_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    options = ["memory", "speed", "--device", "cpu", "--tiny", "--limit", "1", "--json", str(file)]
    with pytest.raises(SystemExit, match="Some parts did not finish"):
        gpu.main([*options, "--folder", str(tmp_path)])
    content = json.loads(file.read_text("utf-8"))
    assert content["machine"]["versions"].keys() == {"torch", "diffusers", "transformers"}
    assert {name: found["ended"] for name, found in content["parts"].items()} == {
        "memory": "not within 1 s",
        "speed": "not within 1 s",
    }
    capsys.readouterr()
    gpu.main(["--table", str(file)])
    assert re.search(r"^\| memory \| not within 1 s \| \d+ s \|  \|$", capsys.readouterr().out, re.MULTILINE)


def test_without_a_gpu_it_says_how_to_rehearse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="--device cpu --tiny rehearses"):
        gpu.main(["tests", "--json", str(tmp_path / "found.json")])


def test_what_was_found_is_added_part_by_part(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    record = gpu.Record(file)
    record.begin("speed")
    record.note("speed", rows=[1])
    record.note("speed", ended="to the end")
    gpu.Record(file).begin("tests")
    assert json.loads(file.read_text("utf-8"))["parts"] == {"speed": {"rows": [1], "ended": "to the end"}, "tests": {}}


def test_models_stay_in_the_folder_that_was_named_and_go_with_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []

    def carry_out(_part: str, _record: gpu.Record, options: argparse.Namespace) -> bool:
        built.append(options.folder)
        (options.folder / "model").mkdir()
        return True

    monkeypatch.setattr(gpu, "carry_out", carry_out)
    named = tmp_path / "gpu-models"
    named.mkdir()
    told = ["tests", "--device", "cpu", "--tiny", "--json", str(tmp_path / "found.json")]
    gpu.main([*told, "--folder", str(named)])
    gpu.main(told)
    assert built[0] == named
    assert [(folder / "model").is_dir() for folder in built] == [True, False]
