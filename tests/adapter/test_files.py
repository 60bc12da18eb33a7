"""Adapter files: exactly the published layout, its variants, and what must be refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionConfig

from ipa_app.adapter import IPAdapter, attention_layers, check_encoder, load_adapter, read_adapter, save_adapter
from ipa_app.errors import UserError
from tests.adapter.conftest import new_adapter
from tests.adapter_files import prefixed, published_unet, saved_by_accelerate
from tests.malicious import Malicious
from tests.tiny_models import tiny_unet

KINDS: list[str] = ["base", "plus", "full"]


def assert_same_weights(loaded: IPAdapter, adapter: IPAdapter) -> None:
    expected = adapter.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_keeps_every_weight(
    kind: str, suffix: str, tmp_path: Path, unet: UNet2DConditionModel, adapters: dict[str, IPAdapter]
) -> None:
    path = tmp_path / "new" / "newer" / f"adapter{suffix}"
    save_adapter(adapters[kind], path)
    loaded = load_adapter(path, unet)
    assert_same_weights(loaded, adapters[kind])
    assert loaded.kind == kind and loaded.layer_names == adapters[kind].layer_names
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_half_precision_files_load_in_the_unets_precision(
    tmp_path: Path, unet: UNet2DConditionModel, adapters: dict[str, IPAdapter]
) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapter(adapters["base"], path, dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    assert {parameter.dtype for parameter in load_adapter(path, unet).parameters()} == {torch.float32}
    half = tiny_unet().half()
    assert {parameter.dtype for parameter in load_adapter(path, half).parameters()} == {torch.float16}


def test_a_loaded_adapter_does_not_depend_on_its_file(
    tmp_path: Path, unet: UNet2DConditionModel, adapters: dict[str, IPAdapter]
) -> None:
    path = tmp_path / "adapter.safetensors"
    save_adapter(adapters["base"], path)
    loaded = load_adapter(path, unet)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert_same_weights(loaded, adapters["base"])


def test_any_number_of_base_tokens_is_read(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    save_adapter(IPAdapter.for_unet(unet, kind="base", clip_dim=24, num_tokens=8), tmp_path / "a.safetensors")
    assert read_adapter(tmp_path / "a.safetensors").num_tokens == 8


# Published layouts


@pytest.fixture(scope="module")
def published_unets() -> dict[str, UNet2DConditionModel]:
    """Return UNets of the published sizes that allocate no memory for their weights."""
    return {name: published_unet(name) for name in ("sd15", "sdxl")}


def test_sd15_layers_are_numbered_as_published(published_unets: dict[str, UNet2DConditionModel]) -> None:
    found = attention_layers(published_unets["sd15"])
    layers = {layer.index: (layer.hidden_size, layer.cross_attention_dim) for layer in found}
    widths = {1: 320, 3: 320, 5: 640, 7: 640, 9: 1280, 11: 1280}
    widths |= {13: 1280, 15: 1280, 17: 1280, 19: 640, 21: 640, 23: 640, 25: 320, 27: 320, 29: 320, 31: 1280}
    assert layers == {index: (width, 768) for index, width in widths.items()}


def test_sdxl_layers_are_numbered_as_published(published_unets: dict[str, UNet2DConditionModel]) -> None:
    layers = {layer.index: layer.hidden_size for layer in attention_layers(published_unets["sdxl"])}
    spans = [(1, 7, 640), (9, 47, 1280), (49, 107, 1280), (109, 119, 640), (121, 139, 1280)]
    assert layers == {index: width for first, last, width in spans for index in range(first, last + 1, 2)}
    assert all(layer.cross_attention_dim == 2048 for layer in attention_layers(published_unets["sdxl"]))


PUBLISHED = [
    ("sd15", "base", {"clip_dim": 1024}, 4, 3_150_336, 22_319_616),
    ("sd15", "base", {"clip_dim": 1280}, 4, 3_936_768, 23_106_048),
    ("sd15", "plus", {"clip_dim": 1280}, 51, 29_918_208, 49_087_488),
    ("sd15", "full", {"clip_dim": 1280}, 6, 2_625_024, 21_794_304),
    ("sdxl", "base", {"clip_dim": 1280}, 4, 10_498_048, 351_285_248),
    ("sdxl", "base", {"clip_dim": 1024}, 4, 8_400_896, 349_188_096),
    ("sdxl", "plus", {"clip_dim": 1280, "heads": 20}, 51, 82_961_664, 423_748_864),
]


@pytest.mark.parametrize(("base", "kind", "sizes", "num_keys", "projection", "total"), PUBLISHED)
def test_sizes_are_those_of_the_published_files(
    published_unets: dict[str, UNet2DConditionModel],
    base: str,
    kind: str,
    sizes: dict[str, int],
    num_keys: int,
    projection: int,
    total: int,
) -> None:
    adapter = IPAdapter.for_unet(published_unets[base], kind=kind, **sizes)
    keys = adapter.state_dict()
    assert sum(key.startswith("image_proj.") for key in keys) == num_keys
    assert sum(parameter.numel() for parameter in adapter.image_proj.parameters()) == projection
    assert sum(parameter.numel() for parameter in adapter.parameters()) == total


def test_base_keys_and_shapes_are_the_published_ones(published_unets: dict[str, UNet2DConditionModel]) -> None:
    shapes = shapes_of(IPAdapter.for_unet(published_unets["sd15"], kind="base", clip_dim=1024))
    assert {key: shape for key, shape in shapes.items() if key.startswith("image_proj.")} == {
        "image_proj.proj.weight": (3072, 1024),
        "image_proj.proj.bias": (3072,),
        "image_proj.norm.weight": (768,),
        "image_proj.norm.bias": (768,),
    }
    assert shapes["ip_adapter.1.to_k_ip.weight"] == (320, 768)
    assert shapes["ip_adapter.31.to_v_ip.weight"] == (1280, 768)


def test_plus_keys_and_shapes_are_the_published_ones(published_unets: dict[str, UNet2DConditionModel]) -> None:
    shapes = shapes_of(IPAdapter.for_unet(published_unets["sdxl"], kind="plus", clip_dim=1280, heads=20))
    expected = {
        "latents": (1, 16, 1280),
        "proj_in.weight": (1280, 1280),
        "proj_in.bias": (1280,),
        "proj_out.weight": (2048, 1280),
        "proj_out.bias": (2048,),
        "norm_out.weight": (2048,),
        "norm_out.bias": (2048,),
    }
    for layer in (f"layers.{depth}" for depth in range(4)):
        norms = (f"{layer}.0.norm1", f"{layer}.0.norm2", f"{layer}.1.0")
        expected |= {f"{norm}.{part}": (1280,) for norm in norms for part in ("weight", "bias")}
        expected |= {f"{layer}.0.to_q.weight": (1280, 1280), f"{layer}.0.to_kv.weight": (2560, 1280)}
        expected |= {f"{layer}.0.to_out.weight": (1280, 1280)}
        expected |= {f"{layer}.1.1.weight": (5120, 1280), f"{layer}.1.3.weight": (1280, 5120)}
    found = {key.removeprefix("image_proj."): shape for key, shape in shapes.items() if key.startswith("image_proj.")}
    assert found == expected


def test_full_face_keys_and_shapes_are_the_published_ones(published_unets: dict[str, UNet2DConditionModel]) -> None:
    shapes = shapes_of(IPAdapter.for_unet(published_unets["sd15"], kind="full", clip_dim=1280))
    assert {key: shape for key, shape in shapes.items() if key.startswith("image_proj.")} == {
        "image_proj.proj.0.weight": (1280, 1280),
        "image_proj.proj.0.bias": (1280,),
        "image_proj.proj.2.weight": (768, 1280),
        "image_proj.proj.2.bias": (768,),
        "image_proj.proj.3.weight": (768,),
        "image_proj.proj.3.bias": (768,),
    }


def shapes_of(adapter: IPAdapter) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in adapter.state_dict().items()}


# Variants


def test_training_time_prefixes_are_read(
    tmp_path: Path, unet: UNet2DConditionModel, adapters: dict[str, IPAdapter]
) -> None:
    save_file(prefixed(adapters["plus"].state_dict()), tmp_path / "a.safetensors")
    assert_same_weights(load_adapter(tmp_path / "a.safetensors", unet), adapters["plus"])
    torch.save({"state_dict": prefixed(adapters["plus"].state_dict())}, tmp_path / "a.bin")
    assert_same_weights(load_adapter(tmp_path / "a.bin", unet), adapters["plus"])


def test_a_whole_training_checkpoint_is_read(tmp_path: Path, sdxl_unet: UNet2DConditionModel) -> None:
    """Accelerate keeps only one of a tensor's two names, the UNet processor's. Layers are numbered down, up, mid."""
    adapter = new_adapter(sdxl_unet, "base")
    save_file(saved_by_accelerate(adapter.state_dict(), sdxl_unet), tmp_path / "model.safetensors")
    assert_same_weights(load_adapter(tmp_path / "model.safetensors", sdxl_unet), adapter)


def test_the_content_counts_and_not_the_name(
    tmp_path: Path, unet: UNet2DConditionModel, adapters: dict[str, IPAdapter]
) -> None:
    save_adapter(adapters["base"], tmp_path / "ip-adapter-plus.safetensors")
    (tmp_path / "ip-adapter-plus.safetensors").rename(tmp_path / "ip-adapter-plus.bin")
    file = read_adapter(tmp_path / "ip-adapter-plus.bin")
    assert (file.kind, file.num_tokens, file.clip_dim, file.cross_attention_dim) == ("base", 4, 24, 32)
    assert_same_weights(load_adapter(tmp_path / "ip-adapter-plus.bin", unet), adapters["base"])


# What must be refused


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    proof, path = tmp_path / "proof", tmp_path / "evil.bin"
    if legacy:
        path.write_bytes(pickle.dumps(Malicious(proof)))
    else:
        torch.save({"image_proj": {"proj.weight": Malicious(proof)}}, path)
    with pytest.raises(UserError, match=r"evil\.bin is not a plain weights file.*never run"):
        read_adapter(path)
    assert not proof.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_damaged_files_are_refused_in_words(suffix: str, tmp_path: Path, adapters: dict[str, IPAdapter]) -> None:
    path = tmp_path / f"adapter{suffix}"
    save_adapter(adapters["base"], path)
    whole = path.read_bytes()
    for content in (b"", b"\0" * 100, b"hello", whole[:9], whole[:300], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"^adapter\{suffix} (is|cannot)"):
            read_adapter(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no adapter file"):
        read_adapter(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="There is no adapter file"):
        read_adapter(tmp_path)


def refusal(tmp_path: Path, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, tmp_path / "file.safetensors")
    with pytest.raises(UserError) as error:
        read_adapter(tmp_path / "file.safetensors")
    return str(error.value)


def test_face_id_is_told_apart(tmp_path: Path, adapters: dict[str, IPAdapter]) -> None:
    base = dict(adapters["base"].state_dict())
    plain = {key: tensor for key, tensor in base.items() if not key.startswith("image_proj.")}
    face_id = plain | {"image_proj.proj.0.weight": torch.ones(4, 4), "image_proj.norm.weight": torch.ones(4)}
    face_id_plus = plain | {"image_proj.perceiver_resampler.proj_in.weight": torch.ones(4, 4)}
    lora = base | {"ip_adapter.1.to_q_lora.down.weight": torch.ones(4, 4)}
    for tensors in (face_id, face_id_plus, lora):
        assert "is a FaceID adapter" in refusal(tmp_path, tensors)


def test_incomplete_and_foreign_files_are_named(tmp_path: Path, adapters: dict[str, IPAdapter]) -> None:
    base = dict(adapters["base"].state_dict())
    assert "no image projection" in refusal(tmp_path, {"lora.weight": torch.ones(2)} | {"a": torch.ones(2)})
    for key in base:
        message = refusal(tmp_path, {name: tensor for name, tensor in base.items() if name != key})
        assert message.startswith("file.safetensors is")
    cut = {name: tensor for name, tensor in base.items() if name != "image_proj.norm.bias"}
    assert refusal(tmp_path, cut) == "file.safetensors is incomplete: image_proj.norm.bias is missing."
    bent = base | {"ip_adapter.1.to_v_ip.weight": torch.ones(32, 31)}
    assert "ip_adapter.1.to_v_ip.weight is 32 x 31 but must be 32 x 32" in refusal(tmp_path, bent)
    quantised = base | {"ip_adapter.1.to_v_ip.weight": torch.ones(32, 32, dtype=torch.int8)}
    assert "ip_adapter.1.to_v_ip.weight is I8, not floating-point" in refusal(tmp_path, quantised)
    assert "extra does not belong in a base adapter" in refusal(tmp_path, base | {"image_proj.extra": torch.ones(1)})
    for flat, shape in ((torch.ones(96), "96"), (torch.tensor(1.0), "a single number"), (torch.ones(4, 0), "4 x 0")):
        for key in ("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"):
            assert refusal(tmp_path, base | {key: flat}) == f"file.safetensors is damaged: {key} is {shape}."
    numberless = {key.replace("ip_adapter.", "ip_adapter.x"): tensor for key, tensor in base.items()}
    assert "no numbered keys" in refusal(tmp_path, numberless)
    plus = dict(adapters["plus"].state_dict())
    for key in ("latents", "proj_in.weight", "proj_out.bias", "layers.0.0.to_q.weight", "layers.3.1.3.weight"):
        plus_key = f"image_proj.{key}"
        refusal(tmp_path, {name: tensor for name, tensor in plus.items() if name != plus_key})


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_one_that_would_fill_memory_is_refused(tmp_path: Path, unet: UNet2DConditionModel, kind: str) -> None:
    clip_dim = {"base": 24, "plus": 32}[kind]
    adapter = IPAdapter.for_unet(unet, kind=kind, clip_dim=clip_dim, num_tokens=5000, heads=1)
    assert "it turns a picture into 5000 tokens, but at most 1024 are allowed" in refusal(
        tmp_path, dict(adapter.state_dict())
    )


def test_a_wrong_base_is_explained_with_both_sides(
    tmp_path: Path,
    published_unets: dict[str, UNet2DConditionModel],
    unet: UNet2DConditionModel,
    sdxl_unet: UNet2DConditionModel,
    adapters: dict[str, IPAdapter],
) -> None:
    path = tmp_path / "mine.safetensors"
    save_adapter(adapters["base"], path)
    with pytest.raises(
        UserError,
        match=r"mine\.safetensors was made for a custom model \(4 .*32 wide\), but .* SDXL \(70 .* 2048 wide\)",
    ):
        load_adapter(path, published_unets["sdxl"])
    with pytest.raises(UserError, match="this base model is Stable Diffusion 1.x"):
        load_adapter(path, published_unets["sd15"])
    wider = {
        key: torch.ones(64, 32) if "ip_adapter.3." in key else tensor
        for key, tensor in dict(adapters["base"].state_dict()).items()
    }
    save_file(wider, path)
    with pytest.raises(UserError) as refused:
        load_adapter(path, unet)
    assert str(refused.value) == (
        "mine.safetensors was made for another base model: its layer 3 is 64 wide, this model's layer 3 is 32 wide."
    )


def test_a_wrong_encoder_is_explained_with_both_sides(
    published_unets: dict[str, UNet2DConditionModel],
) -> None:
    vit_h = CLIPVisionConfig(hidden_size=1280, projection_dim=1024, num_attention_heads=16)
    vit_g = CLIPVisionConfig(hidden_size=1664, projection_dim=1280, num_attention_heads=16)
    for kind, clip_dim in (("base", 1024), ("plus", 1280)):
        adapter = IPAdapter.for_unet(published_unets["sd15"], kind=kind, clip_dim=clip_dim)
        check_encoder(adapter, vit_h)
        with pytest.raises(UserError, match=r"needs .*\(OpenCLIP ViT-H/14\).*but this model's is .*ViT-bigG/14"):
            check_encoder(adapter, vit_g)
        with pytest.raises(UserError) as refused:
            check_encoder(adapter, CLIPVisionConfig(hidden_size=32, projection_dim=24, num_attention_heads=2))
        wanted, given = {"base": ("an embedding", 24), "plus": ("layers", 32)}[kind]
        assert str(refused.value) == (
            f"This {kind} adapter needs an image encoder with {wanted} of width {clip_dim} (OpenCLIP ViT-H/14), "
            f"but this model's is {given}."
        )


def test_a_name_with_another_ending_is_refused(tmp_path: Path, adapters: dict[str, IPAdapter]) -> None:
    with pytest.raises(UserError, match=r"must end in \.safetensors or \.bin, unlike adapter\.pt\.$"):
        save_adapter(adapters["base"], tmp_path / "adapter.pt")


def test_metadata_tells_the_framework(tmp_path: Path, adapters: dict[str, IPAdapter]) -> None:
    save_adapter(adapters["base"], tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind")
def test_a_saved_file_may_be_read_by_whom_new_files_may(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    adapter = IPAdapter.for_unet(unet, kind="base", clip_dim=24)
    (tmp_path / "a.safetensors.part").touch(mode=0o600)  # left by a run that was killed
    (tmp_path / "any").touch()
    save_adapter(adapter, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "any"]
