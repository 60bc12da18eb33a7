"""Settings in a model's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.entry import FastWay, ModelEntry

FAST = {"lora": "loras/a.safetensors", "scheduler": "DDIMScheduler"}


def with_fast_way(folder: Path, **told: object) -> ModelEntry:
    """Return the entry of a folder whose settings declare a fast way."""
    (folder / "loras").mkdir()
    (folder / "loras" / "a.safetensors").touch()
    (folder / "ipa_studio.json").write_text(json.dumps({"fast": {**FAST, **told}}))
    return entry_from_folder(folder, name="x")


def test_settings_tell_of_a_fast_way(tmp_path: Path) -> None:
    config = {"timestep_spacing": "trailing"}
    entry = with_fast_way(tmp_path, steps=6, guidance_scale=1.5, scheduler_config=config, licence="MIT")
    assert entry.fast_way() == FastWay(
        lora=tmp_path / "loras" / "a.safetensors",
        steps=6,
        guidance_scale=1.5,
        scheduler="DDIMScheduler",
        scheduler_config=config,
        licence="MIT",
    )


def test_little_need_be_told_of_a_fast_way(tmp_path: Path) -> None:
    way = with_fast_way(tmp_path).fast_way()
    assert (way.steps, way.guidance_scale, way.scheduler_config, way.licence) == (4, 1.0, {}, "")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"steps": 0}, r"ipa_studio.json: fast.steps is 0; it must be a whole number above 0."),
        ({"guidance_scale": "a"}, "fast.guidance_scale is 'a'; it must be a number of at least 1."),
        ({"scheduler": None}, "fast.scheduler is None; it must be text."),
        ({"scheduler": ""}, "fast.scheduler is ''; it must be the name of a diffusers scheduler, such as LCMSch"),
        ({"scheduler_config": []}, r"fast.scheduler_config is \[\]; it must be a JSON object."),
        ({"lora": "../a.safetensors"}, "fast.lora is '../a.safetensors'; it must be a .safetensors file inside the"),
        ({"lora": "/loras/a.safetensors"}, "fast.lora is '/loras/a.safetensors'; it must be a .safetensors file"),
        ({"lora": "loras/a.bin"}, "fast.lora is 'loras/a.bin'; it must be a .safetensors file inside the model's"),
        ({"lora": "loras/b.safetensors"}, "fast.lora is loras/b.safetensors, but there is no such file."),
    ],
)
def test_a_model_works_without_a_fast_way_that_is_told_wrongly_and_says_why(
    tmp_path: Path, told: dict, said: str
) -> None:
    entry = with_fast_way(tmp_path, **told)
    assert (entry.fast, entry.title) == (None, "X")
    with pytest.raises(UserError, match=said):
        entry.fast_way()


def test_a_fast_way_needs_a_scheduler(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "ipa_studio.json").write_text(json.dumps({"fast": {"lora": "a.safetensors"}}))
    with pytest.raises(UserError, match=r"fast\.scheduler is ''; it must be the name of a diffusers scheduler"):
        entry_from_folder(tmp_path, name="x").fast_way()


def test_a_lora_may_have_its_ending_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "A.SAFETENSORS").touch()
    (tmp_path / "ipa_studio.json").write_text(json.dumps({"fast": {**FAST, "lora": "A.SAFETENSORS"}}))
    assert entry_from_folder(tmp_path, name="x").fast_way().lora == tmp_path / "A.SAFETENSORS"


def test_settings_that_are_misspelt_are_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_fast_way(tmp_path, licence="MIT", guidence_scale=1)
    assert "ipa_studio.json: there is no setting fast.guidence_scale; did you mean fast.guidance_scale?" in caplog.text
    (tmp_path / "ipa_studio.json").write_text(json.dumps({"titel": "Dream", "xyz": 1, "about": "", "live": True}))
    caplog.clear()
    entry_from_folder(tmp_path, name="x")
    said = sorted(record.getMessage().partition(": ")[2] for record in caplog.records)
    assert said == ["there is no setting titel; did you mean title?", "there is no setting xyz."]


def test_the_bundled_models_settings_are_all_known(caplog: pytest.LogCaptureFixture) -> None:
    entry_from_folder(BUNDLED, name="toybox")
    assert not caplog.records
