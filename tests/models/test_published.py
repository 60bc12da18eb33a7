from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest

from ipa_app.errors import UserError
from ipa_app.models.entry import TINY_VAE_FOLDER, ModelEntry
from ipa_app.models.hub import download, is_downloaded
from ipa_app.models.manager import ModelManager
from ipa_app.models.published import published_models
from tests.models.test_tiny_vae import small_decoder
from tests.tiny_models import TINY_LORA

Entries = dict[str, ModelEntry]
TIMEOUT_S = 120


@pytest.fixture
def entries(cache: Path) -> Entries:
    return {entry.name: entry for entry in published_models()}


def placed(entry: ModelEntry) -> dict[str, str]:
    """Map each file of the model's folder to its source."""
    return {place: f"{part.repo}/{path}" for part in entry.parts for path, place in part.files.items()}


def test_every_part_is_pinned_and_no_two_want_the_same_place(entries: Entries) -> None:
    for entry in entries.values():
        assert all(re.fullmatch("[0-9a-f]{40}", part.revision) for part in entry.parts)
        assert len(placed(entry)) == sum(len(part.files) for part in entry.parts)


def test_no_file_is_fetched_in_two_precisions(entries: Entries) -> None:
    for entry in entries.values():
        paths = [f"{part.repo}/{path}" for part in entry.parts for path in part.files if path.endswith(".safetensors")]
        plain = [path.replace(".fp16.", ".") for path in paths]
        assert len(set(plain)) == len(paths)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_the_folder_has_everything_that_the_entry_and_diffusers_look_for(entries: Entries, name: str) -> None:
    entry = entries[name]
    places = {entry.location / place for place in placed(entry)}
    assert {adapter.file for adapter in entry.adapters.values()} <= places
    for folder in ("unet", "vae", "text_encoder", "controlnet", "image_encoder"):
        weights = [path for path in places if path.parent.name == folder and path.suffix == ".safetensors"]
        assert [path.name.count(".") for path in weights] == [1], folder
        assert entry.location / folder / "config.json" in places
    assert entry.fast_way().lora in places
    assert {entry.image_encoder, entry.controlnet("pose").path} <= {path.parent for path in places}
    assert {PurePosixPath(place).parts[0] for place in placed(entry)} >= {"model_index.json", "scheduler", "tokenizer"}


def test_sdxl_takes_the_tower_its_adapters_were_trained_with_and_a_vae_for_half_precision(entries: Entries) -> None:
    places = placed(entries["sdxl"])
    assert places["image_encoder/model.safetensors"] == "h94/IP-Adapter/models/image_encoder/model.safetensors"
    assert places["vae/config.json"].startswith("madebyollin/sdxl-vae-fp16-fix/")
    assert entries["sdxl"].width == 1024


def test_a_cache_that_other_programs_have_filled_is_enough_to_load_it(
    entries: Entries, cache: Path, tiny_bundle_dir: Path
) -> None:
    """A tiny model under the published names, with downloads switched off."""
    entry = without_safety_checker(entries["sd15"])
    assert not is_downloaded(entry)
    with pytest.raises(UserError, match="Stable Diffusion 1.5 is not on this computer"):
        download(entry, report=lambda *_: None, cancel=threading.Event())
    fill(cache, entry, bundle=tiny_bundle_dir)
    assert is_downloaded(entry)
    model = ModelManager({"sd15": entry}, device="cpu").get("sd15", timeout=TIMEOUT_S)
    assert all(adapter in model.adapters for adapter in entry.adapters.values())
    unet, _ = model.fast.read()
    assert unet is not model.pipelines["text_to_image"].unet
    assert model.tiny_vae is not None
    assert set(model.pipelines) == {"text_to_image", "image_to_image", "inpaint"}


def without_safety_checker(entry: ModelEntry) -> ModelEntry:
    """Return the entry without the safety checker, which the tiny model does not have."""
    parts = [
        replace(part, files={path: place for path, place in part.files.items() if "safety_checker" not in path})
        for part in entry.parts
    ]
    return replace(entry, parts=tuple(parts))


def fill(cache: Path, entry: ModelEntry, *, bundle: Path) -> None:
    """Put an entry's files where huggingface_hub caches them, with the content of a tiny bundle."""
    # The published tokenizer has the older layout of two files; the tiny one has both in a single file.
    tokenizer = json.loads((bundle / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    merges = "\n".join(["#version: 0.2", *map(" ".join, tokenizer["merges"])])
    made = {
        "tokenizer/vocab.json": json.dumps(tokenizer["vocab"]).encode(),
        "tokenizer/merges.txt": merges.encode(),
        "tokenizer/special_tokens_map.json": b"{}",
        "adapters/ip-adapter_sd15.safetensors": (bundle / "adapters/ip-adapter_toybox.safetensors").read_bytes(),
        "adapters/ip-adapter-plus_sd15.safetensors": (
            bundle / "adapters/ip-adapter-plus_toybox.safetensors"
        ).read_bytes(),
        "loras/lcm-lora.safetensors": (bundle / TINY_LORA).read_bytes(),
        **small_decoder_files(),
    }
    for part in entry.parts:
        snapshot = cache / f"models--{part.repo.replace('/', '--')}" / "snapshots" / part.revision
        for path, place in part.files.items():
            target = snapshot / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(made[place] if place in made else source_of(bundle, place).read_bytes())


def small_decoder_files() -> dict[str, bytes]:
    """Return the files of a TAESD repository, in the tiny model's size, by their place in a model's folder."""
    with TemporaryDirectory() as folder:
        small_decoder().save_pretrained(folder)
        return {f"{TINY_VAE_FOLDER}/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}


def source_of(bundle: Path, place: str) -> Path:
    """Return the bundle's file for a place in a model's folder; newer image processor files have another name."""
    path = bundle / place
    return path if path.is_file() else next(path.parent.glob("*.json"))
