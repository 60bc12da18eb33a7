from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from ipa_app.errors import UserError
from ipa_app.models.entry import ModelEntry
from ipa_app.models.hub import download, is_downloaded
from ipa_app.models.manager import ModelManager
from ipa_app.models.published import published_models

Entries = dict[str, ModelEntry]
TIMEOUT_S = 120


@pytest.fixture
def entries(cache: Path) -> Entries:
    return {entry.name: entry for entry in published_models()}


def placed(entry: ModelEntry) -> dict[str, str]:
    """Where each file of the model's folder comes from."""
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
    assert set(entry.adapters.values()) <= places
    for folder in ("unet", "vae", "text_encoder", "controlnet", "image_encoder"):
        weights = [path for path in places if path.parent.name == folder and path.suffix == ".safetensors"]
        assert [path.name.count(".") for path in weights] == [1], folder
        assert entry.location / folder / "config.json" in places
    assert {entry.image_encoder, entry.controlnets["pose"]} <= {path.parent for path in places}
    assert {PurePosixPath(place).parts[0] for place in placed(entry)} >= {"model_index.json", "scheduler", "tokenizer"}


def test_sdxl_takes_the_tower_its_adapters_were_trained_with_and_a_vae_for_half_precision(entries: Entries) -> None:
    places = placed(entries["sdxl"])
    assert places["image_encoder/model.safetensors"] == "h94/IP-Adapter/models/image_encoder/model.safetensors"
    assert places["vae/config.json"].startswith("madebyollin/sdxl-vae-fp16-fix/")
    assert entries["sdxl"].width == 1024


def test_a_cache_that_other_programs_have_filled_is_enough_to_load_it(
    entries: Entries, cache: Path, tiny_bundle_dir: Path
) -> None:
    """A tiny model under the published names, downloading switched off."""
    entry = entries["sd15"]
    assert not is_downloaded(entry)
    with pytest.raises(UserError, match="Stable Diffusion 1.5 is not on this computer"):
        download(entry, report=lambda *_: None, cancel=threading.Event())
    fill(cache, entry, source=source_in(tiny_bundle_dir))
    assert is_downloaded(entry)
    model = ModelManager({"sd15": entry}, device="cpu").get("sd15", timeout=TIMEOUT_S)
    assert set(model.adapters) == {"base", "fine"}
    assert set(model.pipelines) == {"text_to_image", "inpaint", "pose"}


def fill(cache: Path, entry: ModelEntry, *, source: Callable[[str], bytes]) -> None:
    """Lay an entry's files into the cache where huggingface_hub would."""
    for part in entry.parts:
        snapshot = cache / f"models--{part.repo.replace('/', '--')}" / "snapshots" / part.revision
        for path, place in part.files.items():
            target = snapshot / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source(place))


def source_in(bundle: Path) -> Callable[[str], bytes]:
    """Find what a place in a model's folder holds in the tiny bundle; what it lacks is an empty object."""
    adapters = {"ip-adapter_sd15": "ip-adapter_toybox", "ip-adapter-plus_sd15": "ip-adapter-plus_toybox"}

    def content(place: str) -> bytes:
        path = bundle / place
        if place.startswith("adapters/"):
            path = path.with_stem(adapters[path.stem])
        return path.read_bytes() if path.is_file() else b"{}"

    return content
