"""What the settings in a model's folder say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import FastWay, ModelEntry

FAST = {"lora": "loras/a.safetensors", "scheduler": "DDIMScheduler"}


def with_fast_way(folder: Path, **told: object) -> ModelEntry:
    """A folder whose settings tell of a fast way."""
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
        ({"scheduler_config": []}, r"fast.scheduler_config is \[\]; it must be a JSON object."),
        ({"lora": "../a.safetensors"}, "fast.lora is '../a.safetensors'; it must be a .safetensors file inside the"),
        ({"lora": "/loras/a.safetensors"}, "fast.lora is '/loras/a.safetensors'; it must be a .safetensors file"),
        ({"lora": "loras/a.bin"}, "fast.lora is 'loras/a.bin'; it must be a .safetensors file inside the model's"),
        ({"lora": "loras/b.safetensors"}, "fast.lora is loras/b.safetensors, and there is no such file."),
    ],
)
def test_a_model_works_without_a_fast_way_that_is_told_wrongly_and_says_why(
    tmp_path: Path, told: dict, said: str
) -> None:
    entry = with_fast_way(tmp_path, **told)
    assert (entry.fast, entry.title) == (None, "X")
    with pytest.raises(UserError, match=said):
        entry.fast_way()
