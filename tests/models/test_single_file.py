"""Checkpoints in one file: the same model as from a folder, without a network."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry, entry_from_folder
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.loading import load_model
from tests.single_file import write_single_file

SDXL_MARK = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
CONFIGURATIONS = ("model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler")


def load(entry: ModelEntry) -> LoadedModel:
    return load_model(entry, device="cpu", dtype=torch.float32, report=lambda *_: None)


@pytest.fixture
def entry(tiny_bundle_dir: Path, tmp_path: Path) -> ModelEntry:
    """A checkpoint with adapters and ControlNet of the tiny model, and its configuration beside it."""
    path = tmp_path / "my-model.safetensors"
    write_single_file(tiny_bundle_dir, path)
    for name in CONFIGURATIONS:
        source, target = tiny_bundle_dir / name, tmp_path / "my-model" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*model.safetensors"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    return dataclasses.replace(entry_from_folder(tiny_bundle_dir, name="tiny"), location=path)


def test_it_is_the_same_model_as_from_a_folder(entry: ModelEntry, tiny_bundle_dir: Path) -> None:
    usual, single = load(entry_from_folder(tiny_bundle_dir, name="tiny")), load(entry)
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = (getattr(each.pipelines["pose"], part).state_dict() for each in (single, usual))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), part
    for part in ("scheduler", "tokenizer"):
        assert type(getattr(single.pipelines["inpaint"], part)) is type(getattr(usual.pipelines["inpaint"], part))
    assert set(single.adapters) == {"base", "fine"}
    assert set(single.pipelines) == {"text_to_image", "image_to_image", "inpaint", "pose"}


def test_without_a_configuration_on_this_machine_it_is_told_in_words(
    entry: ModelEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    shutil.rmtree(entry.location.with_suffix(""))
    words = r"my-model\.safetensors holds weights only, .*stable-diffusion-v1-5.* or put them into a folder my-model"
    with pytest.raises(UserError, match=words):
        load(entry)


def test_a_configuration_of_the_other_family_is_refused(entry: ModelEntry) -> None:
    save_file({SDXL_MARK: torch.zeros(1)}, entry.location)
    with pytest.raises(UserError, match="checkpoint of SDXL, but the configuration in .* that of Stable Diffusion"):
        load(entry)


def test_a_file_that_is_no_checkpoint_is_refused(entry: ModelEntry) -> None:
    save_file({"lora.weight": torch.zeros(1)}, entry.location)
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        load(entry)
    entry.location.write_bytes(b"hello")
    with pytest.raises(UserError, match="damaged or cut off"):
        load(entry)
