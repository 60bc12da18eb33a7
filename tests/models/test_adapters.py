"""Adapters are found, named and matched to models by the headers of their files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ipa_app.adapter import attention_layers
from ipa_app.models.adapters import adapter_base, adapter_files
from ipa_app.models.catalog import entry_from_file, entry_from_folder
from ipa_app.models.entry import ModelEntry
from tests.adapter_files import (
    PUBLISHED,
    TOWERS,
    prefixed,
    published_shapes,
    saved_by_accelerate,
    write_adapter,
    write_model,
    write_shapes,
)
from tests.single_file import write_single_file
from tests.tiny_models import random_adapter_tensors, tiny_unet

TINY = tiny_unet()


def titles(entry: ModelEntry) -> dict[str, str]:
    return {name: adapter.title for name, adapter in entry.adapters.items()}


def with_published(folder: Path, *names: str) -> ModelEntry:
    for name in names:
        write_shapes(folder / "adapters" / f"{name}.safetensors", published_shapes(name))
    return entry_from_folder(folder, name="model")


# Adapters in a model's folder


def test_all_published_adapters_of_sdxl_lie_side_by_side(tmp_path: Path) -> None:
    names = [name for name in PUBLISHED if name.startswith("ip-adapter") and PUBLISHED[name][0] == "sdxl"]
    entry = with_published(write_model(tmp_path / "model", "sdxl"), *names)
    assert titles(entry) == {
        "base": "Base",
        "fine": "Fine-grained",
        "ip-adapter-plus-face_sdxl_vit-h": "Face (fine-grained)",
    }
    assert entry.adapters["base"].file.stem == "ip-adapter_sdxl_vit-h"
    assert entry.adapters["fine"].file.stem == "ip-adapter-plus_sdxl_vit-h"
    assert entry.left_out == (
        "ip-adapter_sdxl.safetensors needs an image encoder with an embedding of width 1280 (OpenCLIP ViT-bigG/14), "
        "but this model's is 1024 (OpenCLIP ViT-H/14).",
    )


def test_all_published_adapters_of_sd15_lie_side_by_side(tmp_path: Path) -> None:
    names = [name for name in PUBLISHED if PUBLISHED[name][0] == "sd15"]
    entry = with_published(write_model(tmp_path / "model", "sd15"), *names)
    assert titles(entry) == {
        "base": "Base",
        "fine": "Fine-grained",
        "ip-adapter-full-face_sd15": "Full face",
        "ip-adapter-plus-face_sd15": "Face (fine-grained)",
        "ip-adapter_sd15_light": "Light",
        "ip-adapter_sd15_light_v11": "Light (version 1.1)",
        "ip_plus_composition_sd15": "Composition",
    }
    assert [sentence.split()[0] for sentence in entry.left_out] == ["ip-adapter_sd15_vit-G.safetensors"]


def test_the_usual_names_always_work(tmp_path: Path) -> None:
    """Even if the only adapter of the kind is a special one; every file also answers to its own name."""
    names = ["ip-adapter-plus-face_sd15", "ip-adapter_sd15"]
    entry = with_published(write_model(tmp_path / "model", "sd15"), *names)
    assert list(entry.adapters) == ["base", "ip-adapter-plus-face_sd15"]
    assert entry.adapter("fine") is entry.adapter("ip-adapter-plus-face_sd15")
    assert entry.adapter("base") is entry.adapter("ip-adapter_sd15")


def test_a_file_with_a_name_of_its_own_displaces_no_published_one(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "sd15")
    for name in ("aaa", "zzz"):
        write_shapes(folder / "adapters" / f"{name}.safetensors", published_shapes("ip-adapter-plus_sd15"))
    entry = entry_from_folder(folder, name="model")
    assert {name: adapter.file.stem for name, adapter in entry.adapters.items()} == {"fine": "aaa", "zzz": "zzz"}
    entry = with_published(folder, "ip-adapter-plus_sd15")
    assert list(entry.adapters) == ["fine", "aaa", "zzz"]
    assert entry.adapters["fine"].file.stem == "ip-adapter-plus_sd15"


def test_a_file_called_like_a_usual_one_displaces_it_neither(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "sd15")
    write_shapes(folder / "adapters" / "fine.safetensors", published_shapes("ip-adapter-plus_sd15"))
    entry = with_published(folder, "ip-adapter-plus_sd15")
    assert {name: adapter.file.stem for name, adapter in entry.adapters.items()} == {
        "fine": "ip-adapter-plus_sd15",
        "fine-2": "fine",
    }


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_the_layouts_of_training_are_told_apart_too(tiny_bundle_dir: Path, tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "model"
    for part in ("unet", "image_encoder"):
        (folder / part).mkdir(parents=True)
        for file in (tiny_bundle_dir / part).iterdir():
            (folder / part / file.name).symlink_to(file)
    plus, full = (random_adapter_tensors(TINY, kind=kind) for kind in ("plus", "full"))
    write_adapter(folder / "adapters" / f"plain.{ending}", random_adapter_tensors(TINY, kind="base"))
    for name, tensors in {"prefixed": prefixed(full), "whole": saved_by_accelerate(plus, TINY)}.items():
        write_adapter(folder / "adapters" / f"{name}.safetensors", tensors)
    entry = entry_from_folder(folder, name="model")
    assert {name: (adapter.file.stem, adapter.kind) for name, adapter in entry.adapters.items()} == {
        "base": ("plain", "base"),
        "fine": ("whole", "plus"),
        "prefixed": ("prefixed", "full"),
    }
    assert entry.left_out == ()


def test_what_has_to_be_fitted_is_the_same_in_a_folder_and_in_one_file(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    write_single_file(tiny_bundle_dir, tmp_path / "tiny.safetensors")
    (tmp_path / "tiny").mkdir()
    single = entry_from_file(tmp_path / "tiny.safetensors", name="tiny")
    told = [adapter_base(entry).layers for entry in (entry_from_folder(tiny_bundle_dir, name="tiny"), single)]
    sizes = [
        [(layer.index, layer.hidden_size, layer.cross_attention_dim) for layer in layers]
        for layers in (*told, attention_layers(TINY))
    ]
    assert sizes[0] == sizes[1] == sizes[2]


def test_a_towers_weights_say_more_surely_what_it_gives_than_its_configuration(tmp_path: Path) -> None:
    """A complete CLIP has the width of its projection elsewhere in the configuration, or not at all."""
    folder = write_model(tmp_path / "model", "sd15", tower="bigG")
    write_shapes(folder / "image_encoder" / "model.safetensors", {"visual_projection.weight": (1024, 1280)})
    entry = with_published(folder, "ip-adapter_sd15", "ip-adapter-plus_sd15")
    assert (list(entry.adapters), entry.left_out) == (["base", "fine"], ())
    (folder / "image_encoder" / "model.safetensors").unlink()
    (folder / "image_encoder" / "config.json").write_text(json.dumps({"vision_config": TOWERS["ViT-H"]}))
    assert list(entry_from_folder(folder, name="model").adapters) == ["base", "fine"]


def test_a_model_without_an_image_encoder_works_without_adapters(tmp_path: Path) -> None:
    entry = with_published(write_model(tmp_path / "model", "sd15", tower=None), "ip-adapter_sd15")
    assert entry.adapters == {}
    assert "needs an image encoder, but this model has none" in entry.left_out[0]


@pytest.mark.parametrize("content", [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1", None])
def test_a_damaged_file_does_not_hide_the_other_format_of_it(tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "adapters"
    for name in ("a.safetensors", "a.bin"):
        write_adapter(folder / name, random_adapter_tensors(tiny_unet(), kind="base"))
    path = folder / "a.safetensors"
    assert adapter_files(folder) == [path]
    path.write_bytes(path.read_bytes()[:500] if content is None else content)
    assert adapter_files(folder) == [folder / "a.bin"]
    (folder / "a.bin").write_bytes(b"<html>")
    assert adapter_files(folder) == [path], "what can be fetched again as it is meant to be"


@pytest.mark.parametrize("missing", ["ip_adapter.3.to_v_ip.weight", "image_proj.norm.bias"])
def test_an_incomplete_file_is_named_and_takes_no_whole_ones_place(
    tiny_bundle_dir: Path, tmp_path: Path, missing: str
) -> None:
    folder = tmp_path / "model"
    for part in ("unet", "image_encoder"):
        shutil.copytree(tiny_bundle_dir / part, folder / part)
    whole = random_adapter_tensors(TINY, kind="base")
    cut = {key: tensor for key, tensor in whole.items() if key != missing}
    write_adapter(folder / "adapters" / "ip-adapter_whole.safetensors", whole)
    write_adapter(folder / "adapters" / "ip-adapter_cut.safetensors", cut)
    entry = entry_from_folder(folder, name="model")
    assert {name: adapter.file.stem for name, adapter in entry.adapters.items()} == {"base": "ip-adapter_whole"}
    assert entry.left_out == (f"ip-adapter_cut.safetensors is incomplete: {missing} is missing.",)
    write_adapter(folder / "adapters" / "ip-adapter_cut.bin", whole)
    assert adapter_files(folder / "adapters")[0].name == "ip-adapter_cut.bin", "its other format is whole"


def test_finding_adapters_brings_in_no_pytorch(tmp_path: Path) -> None:
    """The page opens before PyTorch is loaded, even if a model without adapters has its weights in a PyTorch file."""
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "model_index.json").write_text("{}")
    torch.save({"a": torch.zeros(1)}, tmp_path / "model" / "unet" / "diffusion_pytorch_model.bin")
    script = (
        "import sys; from ipa_app.models.catalog import catalog; print('model' in catalog(), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "IPA_MODELS": str(tmp_path / "model")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["True", "False"]
