"""However many ask what is in a file of weights, it is read once per load."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ipa_app.adapter import header
from ipa_app.models import weights
from ipa_app.models.catalog import entry_from_file, entry_from_folder
from tests.checkpoints import copy_configuration, load
from tests.single_file import write_single_file
from tests.tiny_models import tiny_controlnet, tiny_unet


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the header of each safetensors file was read, by its name and its folder's."""
    counted: Counter[str] = Counter()
    original = header.read_safetensors

    def counting(path: Path, **options: Any) -> Any:
        counted[f"{path.parent.name}/{path.name}"] += 1
        return original(path, **options)

    for module in (header, weights):
        monkeypatch.setattr(module, "read_safetensors", counting)
    return counted


def test_each_part_of_a_folder_is_read_once(tiny_bundle_dir: Path, tmp_path: Path, read: Counter[str]) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    tiny_controlnet(tiny_unet()).save_pretrained(folder / "controlnets" / "depth")
    entry = entry_from_folder(folder, name="copy")
    read.clear()
    load(entry)
    once = {"unet", "vae", "text_encoder", "image_encoder", "controlnet", "depth"}
    parts = {name: times for name, times in read.items() if name.split("/")[0] in once}
    assert {name.split("/")[0] for name in parts} == once
    assert set(parts.values()) == {1}


def test_a_checkpoint_file_is_read_once(tiny_bundle_dir: Path, tmp_path: Path, read: Counter[str]) -> None:
    file = tmp_path / "dream.safetensors"
    write_single_file(tiny_bundle_dir, file)
    copy_configuration(tiny_bundle_dir, tmp_path / "dream")
    entry = entry_from_file(file, name="dream")
    assert read[f"{tmp_path.name}/dream.safetensors"] == 1
    read.clear()
    load(entry)
    assert read[f"{tmp_path.name}/dream.safetensors"] == 1
