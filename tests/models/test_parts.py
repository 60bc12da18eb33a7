"""A part of a model is loaded whole, unquantised and with a matching configuration, or its fault is reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel

from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.parts import Part
from tests.checkpoints import draw_ours, load, pose_pipeline

PARTS = ("unet", "vae", "text_encoder", "image_encoder", "controlnet")
Edit = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def weights(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


def edit(folder: Path, part: str, change: Edit) -> None:
    path = weights(folder, part)
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def refused(folder: Path, words: str, *, part: str | None = None) -> None:
    """Check that the model is refused with these words; for a bad ControlNet, only when it is requested."""
    entry = entry_from_folder(folder, name="x")
    if part != "controlnet":
        with pytest.raises(UserError, match=words):
            load(entry)
        return
    model = load(entry)
    with pytest.raises(UserError, match=words):
        pose_pipeline(model)


@pytest.mark.parametrize("variant", ["bf16", "non_ema", "fp16", "fp32"])
@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_any_variant_is_read_where_it_is_all_there_is(
    copy: Path, tiny_bundle_dir: Path, variant: str, ending: str
) -> None:
    dtype = torch.bfloat16 if variant == "bf16" else torch.float16
    for part in PARTS:
        path = weights(copy, part)
        tensors = {key: tensor.to(dtype) for key, tensor in load_file(path).items()}
        path.unlink()
        if ending == "bin":
            stem = "pytorch_model" if path.stem == "model" else path.stem
            torch.save(tensors, path.with_name(f"{stem}.{variant}.bin"))
        else:
            save_file(tensors, path.with_name(f"{path.stem}.{variant}.safetensors"), metadata={"format": "pt"})
    ours, theirs = (load(entry_from_folder(folder, name="x")) for folder in (copy, tiny_bundle_dir))
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(pose_pipeline(theirs), part).state_dict()
        for key, tensor in getattr(pose_pipeline(ours), part).state_dict().items():
            assert torch.equal(tensor, expected[key].to(dtype).float()), (part, key)


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_pieces_are_read_as_one(copy: Path, tiny_bundle_dir: Path, variant: str | None) -> None:
    for part, kind in (("unet", UNet2DConditionModel), ("text_encoder", CLIPTextModel)):
        module = kind.from_pretrained(copy / part, dtype=torch.float16)
        weights(copy, part).unlink()
        module.save_pretrained(copy / part, max_shard_size="20KB", variant=variant)
        assert len(list((copy / part).glob("*-of-*.safetensors"))) > 1
    ours, theirs = (load(entry_from_folder(folder, name="x")) for folder in (copy, tiny_bundle_dir))
    assert torch.equal(draw_ours(ours), draw_ours(theirs))
    assert ours.memory.needed == theirs.memory.needed


def test_a_piece_that_is_missing_is_named(copy: Path) -> None:
    path = weights(copy, "unet")
    path.rename(path.with_name(f"{path.stem}-00001-of-00002.safetensors"))
    refused(copy, "Tiny is incomplete: piece 2 of the weights in .*unet is missing")


def test_pieces_without_their_index_are_named(copy: Path) -> None:
    path = weights(copy, "unet")
    path.rename(path.with_name(f"{path.stem}-00001-of-00001.safetensors"))
    refused(copy, "Tiny cannot be read: files in .*unet are missing or cannot be opened")


@pytest.mark.parametrize("name", ["model.gguf", "model.onnx", "diffusion_pytorch_model.ckpt", "flax_model.msgpack"])
def test_weights_in_other_formats_are_named(copy: Path, name: str) -> None:
    weights(copy, "unet").rename(copy / "unet" / name)
    refused(copy, rf"Tiny cannot be read: unet holds its weights as {name}, not as \.safetensors or \.bin")


@pytest.mark.parametrize("part", PARTS)
def test_a_tensor_that_is_missing_is_named(copy: Path, part: str) -> None:
    """The libraries would initialise it at random, with a mere log entry."""
    name = next(key for key in load_file(weights(copy, part)) if key.endswith("bias"))
    edit(copy, part, lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name})
    refused(copy, rf"Tiny cannot be read: the weights in .*{part} lack .*{name.split('.')[-2]}\.bias", part=part)


@pytest.mark.parametrize("part", ["unet", "vae", "controlnet"])
def test_a_tensor_that_has_no_place_is_named(copy: Path, part: str) -> None:
    """Weights of a larger network with the configuration of a smaller one would draw something else."""
    edit(copy, part, lambda tensors: {**tensors, "down_blocks.7.resnets.0.conv1.weight": torch.zeros(3)})
    refused(
        copy,
        rf"do not fit together: .*{part}.*config\.json describes a different network .* \(down_blocks\.7\.",
        part=part,
    )


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_tensor_of_another_shape_is_named(copy: Path, part: str) -> None:
    name = next(key for key, tensor in load_file(weights(copy, part)).items() if tensor.ndim > 1)
    edit(copy, part, lambda tensors: {**tensors, name: torch.zeros(3, 3)})
    refused(copy, rf"do not fit together: .*{part}.*config\.json describes a different network")


def test_what_older_libraries_left_in_a_file_does_not_matter(copy: Path, tiny_bundle_dir: Path) -> None:
    """Position ids, the other tower of a complete CLIP, and "text_model." before every name."""
    surplus = {"text_model.embeddings.position_ids": torch.arange(24)[None], "logit_scale": torch.zeros(())}
    surplus |= {"vision_model.embeddings.class_embedding": torch.zeros(4), "text_projection.weight": torch.zeros(4, 4)}
    edit(
        copy,
        "text_encoder",
        lambda tensors: (
            {f"text_model.{key.removeprefix('text_model.')}": value for key, value in tensors.items()} | surplus
        ),
    )
    ours, theirs = (load(entry_from_folder(folder, name="x")) for folder in (copy, tiny_bundle_dir))
    assert torch.equal(draw_ours(ours), draw_ours(theirs))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("dtype", "kind"), [(torch.float8_e4m3fn, "fp8"), (torch.int8, "int8")])
def test_quantised_weights_are_named_before_they_are_read(
    copy: Path, monkeypatch: pytest.MonkeyPatch, part: str, dtype: torch.dtype, kind: str
) -> None:
    edit(copy, part, lambda tensors: {key: value.to(dtype) for key, value in tensors.items()})
    read = Part.load

    def read_another(self: Part, *given: Any, **options: Any) -> Any:
        assert self.folder.name != part, "weights were read"
        return read(self, *given, **options)

    monkeypatch.setattr(Part, "load", read_another)
    refused(copy, rf"Tiny \({part}\) is quantised \({kind}\), and quantised weights cannot be used here", part=part)


def test_quantised_pytorch_files_are_named_too(copy: Path) -> None:
    path = weights(copy, "unet")
    torch.save({key: value.to(torch.int8) for key, value in load_file(path).items()}, path.with_suffix(".bin"))
    path.unlink()
    refused(copy, r"Tiny \(unet\) is quantised \(int8\)")


def test_what_a_configuration_says_of_quantisation_is_heard(copy: Path) -> None:
    path = copy / "unet" / "config.json"
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    path.write_text(json.dumps(json.loads(path.read_text()) | quantised))
    refused(copy, r"Tiny \(unet\) is quantised \(bitsandbytes\)")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named_before_they_are_drawn_with(copy: Path, part: str, value: float) -> None:
    def spoil(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        name = next(key for key in tensors if key.endswith("weight"))
        tensors[name].view(-1)[-1] = value
        return tensors

    edit(copy, part, spoil)
    refused(copy, rf"Tiny \({part}\) cannot be used: read as float32, .* contains infinities or NaN", part=part)


def test_adapters_that_are_no_numbers_are_named_and_the_model_works_without_them(copy: Path) -> None:
    path = copy / "adapters" / "ip-adapter_toybox.safetensors"
    tensors = load_file(path)
    tensors["ip_adapter.1.to_k_ip.weight"][0, 0] = float("nan")
    save_file(tensors, path)
    model = load(entry_from_folder(copy, name="tiny"))
    with pytest.raises(UserError, match=r"^ip-adapter_toybox\.safetensors cannot be used: .* infinities or NaN"):
        model.adapters.get(model.entry.adapter("base"))
    assert model.adapters.get(model.entry.adapter("fine")).network.kind == "plus"


def test_numbers_beyond_half_precision_are_told_with_the_precision(copy: Path) -> None:
    edit(copy, "unet", lambda tensors: {key: value.float() * 1e6 for key, value in tensors.items()})
    part = Part(copy / "unet", "Tiny")
    with pytest.raises(UserError, match="read as float16, .* contains infinities or NaN"):
        part.load(UNet2DConditionModel, dtype=torch.float16)
    assert part.load(UNet2DConditionModel, dtype=torch.float32).dtype == torch.float32


def test_a_part_without_a_configuration_is_named(copy: Path) -> None:
    (copy / "vae" / "config.json").unlink()
    refused(copy, r"Tiny is incomplete: .*vae holds no config\.json")


@pytest.mark.parametrize(
    ("part", "names", "words"),
    [
        ("tokenizer", ["vocab.json", "tokenizer.json"], r"incomplete: .*tokenizer holds no vocab\.json"),
        ("scheduler", ["scheduler_config.json"], r"incomplete: .*scheduler holds no scheduler_config\.json"),
    ],
)
def test_what_is_missing_beside_the_weights_is_named(copy: Path, part: str, names: list[str], words: str) -> None:
    for name in names:
        (copy / part / name).unlink(missing_ok=True)
    refused(copy, words)


def test_parts_that_do_not_fit_each_other_are_told(copy: Path, tiny_sdxl_dir: Path) -> None:
    shutil.rmtree(copy / "unet")
    shutil.copytree(tiny_sdxl_dir / "unet", copy / "unet")
    refused(copy, "do not fit together: its text encoders give tokens 32 wide, but its UNet takes 64")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"encoder_hid_dim": 4, "encoder_hid_dim_type": "image_proj"},
            "its UNet expects other inputs than Stable Diffusion models here give",
        ),
        (
            {"encoder_hid_dim": 4, "encoder_hid_dim_type": "ip_image_proj"},
            r"unet/config\.json describes an unknown kind of UNet2DConditionModel",
        ),
        (
            {"down_block_types": ["NoSuchBlock2D", "DownBlock2D"]},
            r"unet/config\.json describes an unknown kind of UNet2DConditionModel",
        ),
    ],
)
def test_a_unet_of_another_kind_is_refused(copy: Path, changes: dict[str, object], words: str) -> None:
    path = copy / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(copy, words)
