"""The adapters of a loaded model: read on first use, and evicted when others need the room."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.models import loaded
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import AdapterEntry, ModelEntry
from ipa_app.models.hashing import file_hash
from ipa_app.models.loaded import LoadedModel, ResidentAdapters
from ipa_app.models.loading import load_model
from tests.adapter_files import published_shapes, write_adapter, write_shapes
from tests.tiny_models import random_adapter_tensors, tiny_clip_vision, tiny_unet

TINY = tiny_unet()
PICTURE = Image.effect_noise((40, 40), 80).convert("RGB")


def load(folder: Path) -> LoadedModel:
    return loaded_model(entry_from_folder(folder, name="tiny"))


def loaded_model(model: ModelEntry) -> LoadedModel:
    return load_model(model, device="cpu", dtype=torch.float32, report=lambda *_: None)


def entry(path: Path, kind: str = "plus", seed: int = 0) -> AdapterEntry:
    write_adapter(path, random_adapter_tensors(TINY, kind=kind, seed=seed))
    return AdapterEntry(name=path.stem, title=path.stem, file=path, kind=kind)


def resident(room: int) -> ResidentAdapters:
    return ResidentAdapters(TINY, tiny_clip_vision().config, place=torch.device("cpu"), room=room)


def test_the_usual_ones_are_there_at_once_and_others_come_when_asked_for(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    entry(folder / "adapters" / "faces.bin", kind="full")
    model = load(folder)
    adapters = model.entry.adapters
    assert [name for name in adapters if adapters[name] in model.adapters] == ["base", "fine"]
    prompts = {name: model.encode(PICTURE, adapter) for name, adapter in adapters.items()}
    assert all(adapter in model.adapters for adapter in adapters.values())
    assert {name: len(next(iter(prompt.cond.values())).key) for name, prompt in prompts.items()} == {
        "base": 4,
        "fine": 16,
        "faces": 17,  # one token for each of the vision tower's
    }


def test_those_unused_for_longest_make_room_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "_LEAST_ROOM", 0)
    first, second, third = (entry(tmp_path / f"{seed}.safetensors", seed=seed) for seed in range(3))
    size = sum(tensor.nbytes for tensor in random_adapter_tensors(TINY, kind="plus").values())
    adapters = resident(2 * size)
    one = adapters.get(first)
    adapters.get(second)
    assert adapters.get(first) is one
    adapters.get(third)
    assert [each in adapters for each in (first, second, third)] == [True, False, True]
    adapters.get(second)
    assert len(adapters) == 2
    small = resident(1)
    assert small.get(first).sha256 == file_hash(first.file)
    assert len(small) == 1


def test_a_file_that_has_changed_is_read_again_and_one_that_is_gone_is_freed(tmp_path: Path) -> None:
    first, other = entry(tmp_path / "first.safetensors"), entry(tmp_path / "other.safetensors", seed=3)
    adapters = resident(0)
    before = adapters.get(first)
    assert adapters.get(first) is before
    after = adapters.get(entry(first.file, kind="base", seed=1))
    assert (before.network.kind, after.network.kind) == ("plus", "base")
    assert after.sha256 != before.sha256
    assert len(adapters) == 1
    first.file.unlink()
    adapters.get(other)
    assert len(adapters) == 1
    with pytest.raises(UserError, match="The adapter first is no longer here"):
        adapters.get(first)


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = entry(tmp_path / "one.safetensors", seed=1), entry(tmp_path / "two.safetensors", seed=2)

    def replaced_meanwhile(path: Path) -> str:
        if after.file.exists():
            after.file.replace(path)
        return file_hash(path)

    wanted = resident(0).get(after).network.state_dict()
    monkeypatch.setattr(loaded, "file_hash", replaced_meanwhile)
    network, sha256 = resident(0).get(before)
    assert sha256 == file_hash(before.file)
    assert all(value.equal(wanted[name]) for name, value in network.state_dict().items())


def test_a_prompt_is_known_by_what_the_adapter_is_and_not_by_its_name(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    model = load(tiny_bundle_dir)
    toys = entry(tmp_path / "toys.safetensors", seed=1)
    before = model.encode(PICTURE, toys)
    shutil.copyfile(toys.file, tmp_path / "same.safetensors")
    assert model.encode(PICTURE, replace(toys, file=tmp_path / "same.safetensors")) is before
    assert model.encode(PICTURE, entry(toys.file, seed=2)) is not before


def test_one_that_does_not_fit_is_refused_and_the_model_works(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    model = load(tiny_bundle_dir)
    path = write_shapes(tmp_path / "sd15.safetensors", published_shapes("ip-adapter_sd15"))
    with pytest.raises(UserError, match=r"sd15\.safetensors was made for Stable Diffusion 1\.x"):
        model.encode(PICTURE, AdapterEntry(name="sd15", title="sd15", file=path, kind="base"))
    assert model.encode(PICTURE, model.entry.adapters["base"])


def test_a_model_is_loaded_without_an_adapter_that_is_broken(
    tiny_bundle_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken since the catalogue has looked at it, which would leave it out."""
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    there = entry_from_folder(folder, name="tiny")
    path = folder / "adapters" / "ip-adapter_toybox.safetensors"
    tensors = random_adapter_tensors(TINY, kind="base")
    del tensors["image_proj.norm.bias"]
    write_adapter(path, tensors)
    with caplog.at_level(logging.WARNING):
        model = loaded_model(there)
    assert "image_proj.norm.bias is missing" in caplog.text
    with pytest.raises(UserError, match=r"toybox\.safetensors is incomplete: image_proj\.norm\.bias is missing"):
        model.encode(PICTURE, model.entry.adapters["base"])
    assert model.encode(PICTURE, model.entry.adapters["fine"])
