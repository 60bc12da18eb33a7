from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from ipa_app.errors import UserError
from ipa_app.models.catalog import catalog, entry_from_folder
from tests.tiny_models import random_adapter_tensors, tiny_unet


def test_the_bundled_model_is_always_listed_first(tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_MODELS", str(tiny_bundle_dir))
    assert list(catalog()) == ["toybox", "sd15", "sdxl", "tiny"]
    monkeypatch.delenv("IPA_MODELS")
    assert list(catalog()) == ["toybox", "sd15", "sdxl"]


def test_what_is_offered_from_the_hub_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_HUB_MODELS", "sdxl")
    assert list(catalog()) == ["toybox", "sdxl"]
    monkeypatch.setenv("IPA_HUB_MODELS", "")
    assert list(catalog()) == ["toybox"]
    monkeypatch.setenv("IPA_HUB_MODELS", "sd15, dream")
    with pytest.raises(UserError, match="IPA_HUB_MODELS names 'dream'; there is sd15, sdxl"):
        catalog()


def test_on_a_space_nothing_is_offered_unless_its_owner_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "somebody/something")
    assert list(catalog()) == ["toybox"]
    monkeypatch.setenv("IPA_HUB_MODELS", "sd15")
    assert list(catalog()) == ["toybox", "sd15"]


def test_a_folder_describes_itself(tiny_bundle_dir: Path) -> None:
    entry = entry_from_folder(tiny_bundle_dir, name="mine")
    assert (entry.name, entry.title, entry.width, entry.steps, entry.guidance_scale) == ("mine", "Tiny", 64, 2, 3.0)
    assert entry.side_limits == (32, 128)
    assert set(entry.adapters) == {"base", "fine"}
    assert entry.image_encoder == tiny_bundle_dir / "image_encoder"
    assert set(entry.controlnets) == {"pose"}
    assert entry.pose_reader is None
    assert "cat" in entry.words["animals"]


def test_a_models_own_pose_reader_is_found(reading_bundle_dir: Path) -> None:
    entry = entry_from_folder(reading_bundle_dir, name="mine")
    assert entry.pose_reader == reading_bundle_dir / "pose_reader" / "model.safetensors"


def test_adapters_are_told_apart_by_content_not_by_name(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    shutil.copy(tiny_bundle_dir / "adapters" / "ip-adapter-plus_toybox.safetensors", adapters / "a.safetensors")
    shutil.copy(tiny_bundle_dir / "adapters" / "ip-adapter_toybox.safetensors", adapters / "plus.safetensors")
    (adapters / "broken.safetensors").write_bytes(b"not a file of tensors")
    entry = entry_from_folder(tmp_path, name="x")
    assert {name: adapter.file.name for name, adapter in entry.adapters.items()} == {
        "fine": "a.safetensors",
        "base": "plus.safetensors",
    }


def test_without_settings_the_size_comes_from_the_configuration(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    for part in ("unet", "vae"):
        (tmp_path / part).mkdir()
        shutil.copy(tiny_bundle_dir / part / "config.json", tmp_path / part)
    entry = entry_from_folder(tmp_path, name="my-model")
    assert (entry.width, entry.height, entry.title) == (64, 64, "My Model")
    assert entry.adapters == {}
    assert entry.words == {}


@pytest.mark.parametrize(
    "setting",
    [{"steps": 0}, {"width": "big"}, {"guidance_scale": True}, {"title": 3}, {"guidance_scale": float("nan")}],
)
def test_wrong_settings_are_named(tmp_path: Path, setting: dict) -> None:
    (tmp_path / "ipa_studio.json").write_text(json.dumps(setting))
    with pytest.raises(UserError, match=rf"ipa_studio.json: {next(iter(setting))} is "):
        entry_from_folder(tmp_path, name="x")


def test_settings_that_are_no_json_are_named(tmp_path: Path) -> None:
    (tmp_path / "ipa_studio.json").write_text("{")
    with pytest.raises(UserError, match="ipa_studio.json is not readable JSON"):
        entry_from_folder(tmp_path, name="x")


def test_a_folder_that_is_no_model_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_MODELS", str(tmp_path))
    with pytest.raises(UserError, match="IPA_MODELS names .* no model folder"):
        catalog()


def test_two_folders_of_the_same_name_are_refused(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = tmp_path / tiny_bundle_dir.name
    twin.mkdir()
    (twin / "model_index.json").write_text("{}")
    monkeypatch.setenv("IPA_MODELS", os.pathsep.join([str(tiny_bundle_dir), str(twin)]))
    with pytest.raises(UserError, match="two models called tiny"):
        catalog()


def test_a_folder_called_toybox_stands_in_for_the_bundled_model(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "toybox"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    monkeypatch.setenv("IPA_MODELS", str(folder))
    assert catalog()["toybox"].location == folder


@pytest.mark.parametrize(("key", "side"), [("conditioner.embedders.1.logit_scale", 1024), ("cond_stage_model.x", 512)])
def test_a_checkpoint_file_is_a_model_with_its_adapters_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, side: int
) -> None:
    file = tmp_path / "my-dream.safetensors"
    save_file({key: np.zeros(1, dtype=np.float32)}, file)
    adapters = tmp_path / "my-dream" / "adapters"
    adapters.mkdir(parents=True)
    save_torch_file(random_adapter_tensors(tiny_unet(), kind="plus"), adapters / "any.safetensors")
    (tmp_path / "my-dream" / "ipa_studio.json").write_text(json.dumps({"steps": 9}))
    monkeypatch.setenv("IPA_MODELS", str(file))
    entry = catalog()["my-dream"]
    assert (entry.title, entry.location, entry.width, entry.steps) == ("My Dream", file, side, 9)
    assert {name: adapter.file for name, adapter in entry.adapters.items()} == {"fine": adapters / "any.safetensors"}


def test_a_file_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dream.ckpt").write_bytes(b"a pickle")
    monkeypatch.setenv("IPA_MODELS", str(tmp_path / "dream.ckpt"))
    with pytest.raises(UserError, match="no model folder .* and no .safetensors file"):
        catalog()
