from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from ipa_app.errors import UserError
from ipa_app.models.catalog import Catalog, catalog, entry_from_file, entry_from_folder
from ipa_app.models.manager import ModelManager
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
    assert list(catalog()) == ["toybox", "sd15"]
    assert catalog().left_out == {
        "dream": "IPA_HUB_MODELS names 'dream', which is not available; choose from: sd15, sdxl."
    }


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
    ("noted", "size"),
    [
        ({"sample_size": 32, "_diffusers_version": "0.6.0"}, (512, 512)),
        ({"sample_size": 32, "_diffusers_version": "0.8.1"}, (512, 512)),
        ({"sample_size": 96, "_diffusers_version": "0.8.1"}, (768, 768)),
        ({"sample_size": 32, "_diffusers_version": "0.9.0.dev0"}, (256, 256)),
        ({"sample_size": 32, "_diffusers_version": "0.10.2"}, (256, 256)),
        ({"sample_size": 32, "_diffusers_version": None}, (256, 256)),
        ({"sample_size": [64, 96]}, (768, 512)),
        ({"sample_size": None}, (512, 512)),
        ({"sample_size": 0}, (512, 512)),
    ],
)
def test_the_size_is_the_one_that_diffusers_draws(
    noted: dict, size: tuple[int, int], tiny_bundle_dir: Path, tmp_path: Path
) -> None:
    """StableDiffusionPipeline takes models saved before its version 0.9 for ones of 64 latents at least."""
    for part in ("unet", "vae"):
        config = json.loads((tiny_bundle_dir / part / "config.json").read_text())
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config | (noted if part == "unet" else {})))
    entry = entry_from_folder(tmp_path, name="my-model")
    assert (entry.width, entry.height) == size


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": 0},
        {"width": "big"},
        {"guidance_scale": True},
        {"title": 3},
        {"guidance_scale": float("nan")},
        {"live": 1},
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, setting: dict) -> None:
    (tmp_path / "ipa_studio.json").write_text(json.dumps(setting))
    with pytest.raises(UserError, match=rf"ipa_studio.json: {next(iter(setting))} is "):
        entry_from_folder(tmp_path, name="x")


def test_settings_that_are_no_json_are_named(tmp_path: Path) -> None:
    (tmp_path / "ipa_studio.json").write_text("{")
    with pytest.raises(UserError, match="ipa_studio.json is not readable JSON"):
        entry_from_folder(tmp_path, name="x")


def names(monkeypatch: pytest.MonkeyPatch, *items: object, separator: str = os.pathsep) -> Catalog:
    """Return the catalogue with IPA_MODELS set to these items."""
    monkeypatch.setenv("IPA_MODELS", separator.join(map(str, items)))
    return catalog()


@pytest.fixture
def broken(tiny_bundle_dir: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes something broken in place of a model."""

    def make(what: str) -> Path:
        path = tmp_path / "broken"
        if what in TENSORS:
            path = path.with_suffix(".safetensors")
            save_file({name: np.zeros((4, 4), dtype=np.float32) for name in TENSORS[what]}, path)
        elif what in CONTENTS:
            name, content = CONTENTS[what]
            path = tmp_path / name
            path.write_bytes(content)
        elif what in SETTINGS:
            shutil.copytree(tiny_bundle_dir, path)
            (path / "ipa_studio.json").write_text(SETTINGS[what])
        elif what == "an empty folder":
            path.mkdir()
        elif what == "a folder of files":
            path.mkdir()
            (path / "dream.safetensors").touch()
        elif what == "a folder of LoRAs":
            path.mkdir()
            save_file({"lora_unet_x.lora_up.weight": np.zeros(1, dtype=np.float32)}, path / "pytorch_lora.safetensors")
        elif what == "a part":
            shutil.copytree(tiny_bundle_dir / "unet", path)
        return path

    return make


TENSORS = {
    "a LoRA": ["lora_unet_mid_block.lora_up.weight"],
    "a LoRA of diffusers": ["unet.mid_block.attentions.0.proj_in.lora_A.weight"],
    "a LoCon": ["lycoris_mid_block.hada_w1_a"],
    "an adapter": ["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"],
    "an adapter in training": ["unet.mid_block.attentions.0.attn2.processor.to_k_ip.weight"],
    "a ControlNet": ["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"],
    "an original ControlNet": ["control_model.input_blocks.0.0.weight"],
    "a VAE": ["decoder.conv_in.weight", "encoder.conv_in.weight"],
    "an original VAE": ["first_stage_model.decoder.conv_in.weight"],
    "a text encoder": ["text_model.embeddings.token_embedding.weight"],
    "an image encoder": ["vision_model.embeddings.class_embedding", "visual_projection.weight"],
    "a UNet": ["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"],
    "an original UNet": ["model.diffusion_model.input_blocks.0.0.weight"],
    "a T5": ["encoder.block.0.layer.0.SelfAttention.q.weight"],
    "an embedding": ["emb_params"],
    "an embedding for SDXL": ["clip_g", "clip_l"],
    "an embedding of diffusers": ["<cat-toy>"],
    "a motion module": ["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"],
    "an enlarger": ["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"],
    "FLUX": ["double_blocks.0.img_attn.norm.key_norm.scale"],
    "Stable Diffusion 3": ["model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias"],
    "the refiner": ["conditioner.embedders.0.model.text_projection"],
}
CONTENTS = {
    "a .ckpt": ("broken.ckpt", b"PK"),
    "GGUF": ("broken.gguf", b"GGUF"),
    "GGUF under another name": ("broken.safetensors", b"GGUF" + bytes(40)),
    "a pointer of Git LFS": ("broken.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
    "a pickle under another name": ("broken.safetensors", b"PK\x03\x04" + bytes(40)),
    "garbage": ("broken.safetensors", b"hello"),
    "nothing in it": ("broken.safetensors", b""),
}
SETTINGS = {"broken settings": "{", "wrong settings": '{"steps": 0}', "a list of settings": "[]"}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a disk that is gone", "IPA_MODELS names .*broken, but nothing is there; please check that its disk"),
        ("an empty folder", r"which is not a model folder \(it has no model_index\.json\)\."),
        ("a folder of files", r"not a model folder .* please name that file, such as .*dream\.safetensors"),
        ("a part", r"not a model folder \(it has no model_index\.json\) but only a UNet2DConditionModel\."),
        ("a folder of LoRAs", r"not a model folder \(it has no model_index\.json\); it holds a LoRA\."),
        ("a .ckpt", r"single files must be \.safetensors"),
        ("GGUF", r"broken\.gguf is quantised \(GGUF\)"),
        ("GGUF under another name", r"is quantised \(GGUF\)"),
        ("a pointer of Git LFS", "is only a placeholder for a file kept by Git LFS"),
        ("a pickle under another name", r"is a PyTorch file; please use the \.safetensors version"),
        ("garbage", "is damaged or incomplete"),
        ("nothing in it", "is damaged or incomplete"),
        ("broken settings", r"ipa_studio\.json is not readable JSON"),
        ("wrong settings", r"ipa_studio\.json: steps is 0"),
        ("a list of settings", r"ipa_studio\.json must hold a JSON object"),
        ("a LoRA", "is a LoRA, which is not a complete checkpoint"),
        ("a LoRA of diffusers", "is a LoRA, "),
        ("a LoCon", "is a LoRA, "),
        ("an adapter", "is an IP-Adapter, "),
        ("an adapter in training", "is an IP-Adapter, "),
        ("a ControlNet", "is a ControlNet, "),
        ("an original ControlNet", "is a ControlNet, "),
        ("a VAE", "is a VAE, "),
        ("an original VAE", "is a VAE, "),
        ("a text encoder", "is a text encoder, "),
        ("an image encoder", "is a CLIP image encoder, "),
        ("a UNet", "is a UNet on its own, "),
        ("an original UNet", "is a UNet on its own, "),
        ("a T5", "is a T5 text encoder, "),
        ("an embedding", "is a textual inversion embedding, "),
        ("an embedding for SDXL", "is a textual inversion embedding, "),
        ("an embedding of diffusers", "is a textual inversion embedding, "),
        ("a motion module", "is an AnimateDiff motion module, "),
        ("an enlarger", "is an upscaler, "),
        ("FLUX", "is a checkpoint of FLUX, "),
        ("Stable Diffusion 3", "is a checkpoint of Stable Diffusion 3, "),
        ("the refiner", "is a checkpoint of the SDXL refiner, "),
    ],
)
def test_what_is_no_model_is_named_and_left_out_and_the_others_work(
    tiny_bundle_dir: Path,
    broken: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
    words: str,
) -> None:
    path = broken(what)
    found = names(monkeypatch, path, tiny_bundle_dir)
    assert list(found) == ["toybox", "sd15", "sdxl", "tiny"]
    ((name, sentence),) = found.left_out.items()
    assert name == path.name
    assert re.search(words, sentence), sentence
    # Users are not told the path on the server; the log has it.
    assert str(path.parent) not in sentence
    assert str(path) in caplog.text
    with pytest.raises(UserError, match=re.escape(sentence)):
        ModelManager(found).entry(name)


def test_of_two_of_the_same_name_the_first_is_used(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = tmp_path / tiny_bundle_dir.name
    twin.mkdir()
    (twin / "model_index.json").write_text("{}")
    found = names(monkeypatch, tiny_bundle_dir, twin)
    assert found["tiny"].location == tiny_bundle_dir
    assert "two models called tiny" in found.left_out["tiny (2)"]


def test_the_same_place_twice_is_one_model(tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = names(monkeypatch, tiny_bundle_dir, f"{tiny_bundle_dir}/", tiny_bundle_dir / ".." / tiny_bundle_dir.name)
    assert list(found)[-1] == "tiny"
    assert not found.left_out


@pytest.mark.parametrize("text", ["{0}:", ":{0}", "{0}::", " {0} ", '"{0}"', "'{0}'", "{0};", "{0} ; ", "{0}; :"])
def test_empty_items_spaces_quotes_and_semicolons_do_not_matter(
    tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("IPA_MODELS", text.format(tiny_bundle_dir))
    assert list(catalog()) == ["toybox", "sd15", "sdxl", "tiny"]
    assert not catalog().left_out


def test_semicolons_separate_as_well(
    tiny_bundle_dir: Path, other_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = names(monkeypatch, tiny_bundle_dir, other_bundle_dir, separator=";")
    assert list(found)[-2:] == ["tiny", "other"]


def test_a_name_with_a_semicolon_in_it_is_one(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "a;b")
    assert names(monkeypatch, folder)["a;b"].location == folder


def test_a_tilde_is_somebodys_home(tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_bundle_dir.parent))
    found = names(monkeypatch, f"~/{tiny_bundle_dir.name}", "~nobody-of-this-name/model")
    assert found["tiny"].location == tiny_bundle_dir
    assert "nothing is there" in found.left_out["model"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_settings_of_windows_editors_are_read(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    (folder / "ipa_studio.json").write_text('{"title": "Größe"}', encoding=encoding)
    assert names(monkeypatch, folder)["model"].title == "Größe"


@pytest.mark.parametrize("ending", [".SAFETENSORS", ".Safetensors", ".sft"])
def test_the_ending_may_be_written_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    path = tmp_path / f"dream{ending}"
    save_file({"cond_stage_model.transformer.x": np.zeros(1, dtype=np.float32)}, path)
    assert names(monkeypatch, path)["dream"].location == path


def test_a_link_is_called_as_it_is_called_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the Hub's cache, names are links to files that are named by their checksums."""
    save_file({"cond_stage_model.transformer.x": np.zeros(1, dtype=np.float32)}, tmp_path / "0123abcd")
    (tmp_path / "dream.safetensors").symlink_to(tmp_path / "0123abcd")
    assert names(monkeypatch, tmp_path / "dream.safetensors")["dream"].title == "Dream"


def test_a_disk_that_fails_is_told(tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("ipa_app.models.catalog.read_header", lambda *_, **__: failing(_))
    file = tiny_bundle_dir / "unet" / "diffusion_pytorch_model.safetensors"
    found = names(monkeypatch, file, tiny_bundle_dir)
    assert "tiny" in found
    assert found.left_out[file.name] == f"{file.name} cannot be read (Input/output error); is its disk connected?"


def test_a_folder_called_toybox_stands_in_for_the_bundled_model(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "toybox"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    monkeypatch.setenv("IPA_MODELS", str(folder))
    assert catalog()["toybox"].location == folder


@pytest.mark.parametrize(
    ("deviation", "dtype", "side"),
    [
        (0.15, torch.float16, 768),
        (0.03, torch.float16, 512),
        (0.03, torch.float32, 512),
        (0.03, torch.bfloat16, 768),  # bfloat16 cannot be read before PyTorch is loaded
        (None, torch.float16, 768),
    ],
)
def test_a_stable_diffusion_2_tells_its_size_by_a_layer(
    tmp_path: Path, deviation: float | None, dtype: torch.dtype, side: int
) -> None:
    """The base model predicts noise, at 512 pixels; without a configuration beside the file, both get the same one."""
    tensors = {"cond_stage_model.model.ln_final.bias": torch.zeros(4, dtype=dtype)}
    if deviation is not None:
        layer = torch.randn(320, generator=torch.Generator().manual_seed(0)) * deviation
        tensors["model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"] = layer.to(dtype)
    save_torch_file(tensors, tmp_path / "dream.safetensors")
    entry = entry_from_file(tmp_path / "dream.safetensors", name="dream")
    assert (entry.width, entry.height) == (side, side)


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
