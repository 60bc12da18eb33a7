from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ipa_app.adapter import attention_layers, header
from ipa_app.errors import UserError
from ipa_app.models import weights
from ipa_app.models.caches import LEAST_PROMPTS, PromptCache
from ipa_app.models.catalog import entry_from_file, entry_from_folder
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.loading import load_model
from tests.checkpoints import copy_configuration, load, pose_pipeline
from tests.single_file import write_single_file
from tests.tiny_models import tiny_controlnet, tiny_unet


@pytest.fixture(scope="module")
def model(tiny_bundle_dir: Path) -> LoadedModel:
    return load(entry_from_folder(tiny_bundle_dir, name="tiny"))


def test_all_pipelines_share_one_set_of_weights(model: LoadedModel) -> None:
    assert set(model.pipelines) == {"text_to_image", "image_to_image", "inpaint"}
    for part in ("unet", "vae", "text_encoder", "image_encoder"):
        assert len({id(getattr(pipeline, part)) for pipeline in model.pipelines.values()}) == 1
    assert {module.dtype for module in (pose_pipeline(model).unet, pose_pipeline(model).controlnet)} == {torch.float32}


def test_nothing_can_be_trained_by_accident(model: LoadedModel) -> None:
    adapters = [model.adapters.get(adapter).network for adapter in model.entry.adapters.values()]
    modules = [pose_pipeline(model).unet, pose_pipeline(model).controlnet, *adapters]
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())
    assert not any(module.training for module in modules)


def test_each_call_gets_a_scheduler_of_its_own(model: LoadedModel) -> None:
    first, second = model.pipeline("inpaint"), model.pipeline("inpaint")
    first.scheduler.set_timesteps(7)
    assert second.scheduler.num_inference_steps is None
    assert model.pipelines["inpaint"].scheduler.num_inference_steps is None
    assert first.scheduler.config == second.scheduler.config
    assert first.unet is second.unet


def test_loading_says_how_far_it_is(tiny_bundle_dir: Path) -> None:
    told: list[tuple[float, str]] = []
    entry = entry_from_folder(tiny_bundle_dir, name="tiny")
    load_model(entry, device="cpu", dtype=torch.float32, report=lambda share, message: told.append((share, message)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert len({message for _, message in told}) >= 3


def test_a_picture_is_encoded_once_per_adapter(model: LoadedModel) -> None:
    picture = Image.effect_noise((40, 40), 80).convert("RGB")
    adapters = model.entry.adapters
    base = model.encode(picture, adapters["base"])
    assert model.encode(picture.copy(), adapters["base"]) is base
    assert model.encode(picture, adapters["fine"]) is not base
    assert model.encode(Image.new("RGB", (40, 40), "red"), adapters["base"]) is not base


def test_the_cache_forgets_what_was_unused_for_longest(model: LoadedModel) -> None:
    cache = PromptCache(limit=2)
    prompt = model.encode(Image.new("RGB", (8, 8)), model.entry.adapters["base"])
    for name in ("a", "b"):
        cache.put((name, "base"), prompt)
    cache.get(("a", "base"))
    cache.put(("c", "base"), prompt)
    assert cache.get(("b", "base")) is None
    assert cache.get(("a", "base")) is prompt
    assert len(cache) == 2


def test_large_prompts_are_kept_in_smaller_number(model: LoadedModel) -> None:
    prompt = model.encode(Image.new("RGB", (8, 8), "blue"), model.entry.adapters["fine"])
    layers = attention_layers(model.pipelines["text_to_image"].unet)
    # Keys and values of 16 float32 tokens, with a picture and without.
    assert prompt.num_bytes == 2 * 2 * 16 * 4 * sum(layer.hidden_size for layer in layers)
    for room, kept in ((10 * prompt.num_bytes, 10), (prompt.num_bytes, LEAST_PROMPTS)):
        cache = PromptCache(limit=64, most_bytes=room)
        for number in range(12):
            cache.put((str(number), "fine"), prompt)
        assert len(cache) == kept
        assert cache.get(("11", "fine")) is prompt


def test_a_model_without_a_controlnet_or_adapters_says_so(tiny_bundle_dir: Path) -> None:
    plain = load(entry_from_folder(tiny_bundle_dir, name="tiny"), controlnets={}, adapters={})
    with pytest.raises(UserError, match="The model Tiny has no ControlNet for poses; please choose another model"):
        plain.entry.controlnet("pose")
    with pytest.raises(UserError, match=r"no adapter 'fine' \(it has none\)"):
        plain.entry.adapter("fine")


def test_memory_that_runs_out_while_loading_is_told(tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object, **__: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr("ipa_app.models.parts.Part.load", greedy)
    with pytest.raises(UserError, match="Tiny did not fit into the free memory; please close other programs"):
        load(entry_from_folder(tiny_bundle_dir, name="tiny"))


def test_a_missing_folder_is_named(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing: .*nowhere"):
        load(entry_from_folder(tiny_bundle_dir, name="tiny"), location=tmp_path / "nowhere")


def test_a_file_that_is_gone_is_named(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Tiny is missing: there is no .*dream\.safetensors; .* its disk"):
        load(entry_from_folder(tiny_bundle_dir, name="tiny"), location=tmp_path / "dream.safetensors")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often the header of each safetensors file is read, by folder and file name."""
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
