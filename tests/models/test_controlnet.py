"""A model's ControlNet, as a folder or one file; one that is invalid or of another model is reported."""

from __future__ import annotations

import gc
import json
import re
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file

from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry, entry_from_file, entry_from_folder
from tests.checkpoints import load, pose_pipeline
from tests.malicious import Malicious
from tests.single_file import original_controlnet, write_single_file
from tests.tiny_models import tiny_controlnet, tiny_sdxl_unet, tiny_unet


@pytest.fixture(scope="module")
def controlnet() -> ControlNetModel:
    return tiny_controlnet(tiny_unet(), seed=9)


@pytest.fixture
def copy(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    """Return a model whose ControlNet folder is empty."""
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    shutil.rmtree(folder / "controlnet")
    (folder / "controlnet").mkdir()
    return folder


def described(folder: Path) -> ModelEntry:
    return entry_from_folder(folder, name="x")


def assert_loaded(folder: Path, controlnet: ControlNetModel) -> None:
    assert_equal(pose_pipeline(load(described(folder))).controlnet, controlnet)


def assert_equal(network: ControlNetModel, other: ControlNetModel) -> None:
    loaded, expected = network.state_dict(), other.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    "name", ["controlnet/control_v11p_sd15_openpose.pth", "controlnet/any.pt", "control_v11p_sd15_openpose.pth"]
)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_a_file_as_its_authors_publish_it_is_read(
    copy: Path, controlnet: ControlNetModel, name: str, is_wrapped: bool
) -> None:
    tensors = original_controlnet(controlnet)
    torch.save({"state_dict": tensors} if is_wrapped else tensors, copy / name)
    assert_loaded(copy, controlnet)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_one_in_a_whole_checkpoint_is_read_alone(
    copy: Path, controlnet: ControlNetModel, tiny_bundle_dir: Path, tmp_path: Path, ending: str
) -> None:
    """As in control_sd15_canny.pth, one of the first, which contains its base model."""
    write_single_file(tiny_bundle_dir, tmp_path / "base.safetensors")
    tensors = {**load_file(tmp_path / "base.safetensors"), **original_controlnet(controlnet)}
    path = copy / "controlnet" / f"control_sd15_openpose{ending}"
    if ending == ".pth":
        torch.save({"state_dict": tensors}, path)
    else:
        save_file(tensors, path)
    assert_loaded(copy, controlnet)
    needed = load(described(copy)).memory.needed
    path.unlink()
    torch.save(original_controlnet(controlnet), path.with_suffix(".pth"))
    assert needed == load(described(copy)).memory.needed


@pytest.mark.parametrize("is_original", [False, True])
def test_a_safetensors_file_is_read_under_either_names(
    copy: Path, controlnet: ControlNetModel, is_original: bool
) -> None:
    tensors = original_controlnet(controlnet) if is_original else controlnet.state_dict()
    save_file(tensors, copy / "controlnet" / "diffusion_pytorch_model.safetensors")
    assert_loaded(copy, controlnet)


def test_a_configuration_beside_a_file_of_another_name_does_not_hide_it(
    copy: Path, controlnet: ControlNetModel, tiny_bundle_dir: Path
) -> None:
    shutil.copy(tiny_bundle_dir / "controlnet" / "config.json", copy / "controlnet")
    torch.save(original_controlnet(controlnet), copy / "controlnet" / "control_sd15_openpose.pth")
    assert_loaded(copy, controlnet)


def assert_left_out(folder: Path, words: str) -> None:
    """Check that the ControlNet is reported, that a request for it is told why, and that the model works without it."""
    entry = described(folder)
    (sentence,) = entry.controlnets_left_out.values()
    assert re.search(words, sentence)
    with pytest.raises(UserError) as refused:
        entry.controlnet("pose")
    assert str(refused.value) == sentence
    assert len(load(entry).controlnets) == 0


def test_code_in_a_file_is_refused_and_not_run(copy: Path) -> None:
    proof = copy / "proof"
    torch.save({"control_model.x": Malicious(proof)}, copy / "controlnet" / "pose.pth")
    assert_left_out(copy, r"controlnet/pose\.pth is not a plain weights file .* never run")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lora_unet.lora_up.weight": torch.zeros(1)}, "pose.pth is a LoRA, not a ControlNet"),
        ({"weight": torch.zeros(1)}, "pose.pth is an unknown kind of file, not a ControlNet"),
        ({"control_model.x": torch.zeros(1), "lora_controlnet": torch.zeros(1)}, "pose.pth is .*, not a ControlNet"),
        ({"control_model.x": torch.zeros(4, 4, dtype=torch.int8)}, r"pose.pth is quantised \(int8\)"),
    ],
)
def test_a_file_of_something_else_is_named(copy: Path, tensors: dict[str, torch.Tensor], words: str) -> None:
    torch.save(tensors, copy / "controlnet" / "pose.pth")
    assert_left_out(copy, words)


def test_a_file_that_does_not_fit_the_unet_is_told_when_it_is_asked_for(copy: Path) -> None:
    torch.save({"control_model.x": torch.zeros(4, 4)}, copy / "controlnet" / "pose.pth")
    model = load(described(copy))
    for _ in range(2):
        with pytest.raises(UserError, match="pose.pth was made for another base model: .* does not fit this model"):
            pose_pipeline(model)


@pytest.mark.parametrize(
    "key", ["input_hint_block.0.weight", "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"]
)
def test_a_file_with_a_number_in_place_of_weights_is_told(copy: Path, controlnet: ControlNetModel, key: str) -> None:
    tensors = original_controlnet(controlnet)
    assert f"control_model.{key}" in tensors
    torch.save({**tensors, f"control_model.{key}": torch.zeros(())}, copy / "controlnet" / "pose.pth")
    with pytest.raises(UserError, match=r"pose\.pth was made for another base model"):
        pose_pipeline(load(described(copy)))


@pytest.mark.parametrize("widths", [None, 32, "wide", {}, [32]])
def test_a_folder_of_other_widths_is_named(tiny_bundle_dir: Path, tmp_path: Path, widths: object) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    path = folder / "controlnet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block_out_channels": widths}))
    assert_left_out(folder, "was made for another base model: its blocks are .* wide, this model's are 32, 64")


def test_a_file_for_another_family_is_refused_with_both_sides(copy: Path) -> None:
    save_file(tiny_controlnet(tiny_sdxl_unet()).state_dict(), copy / "controlnet" / "pose.safetensors")
    assert_left_out(copy, r"pose\.safetensors was made for .* \(text tokens 64 wide\), but .* \(text tokens 32 wide\)")


def test_weights_that_are_no_numbers_are_named(copy: Path, controlnet: ControlNetModel) -> None:
    tensors = original_controlnet(controlnet)
    tensors["control_model.middle_block_out.0.bias"] = torch.full((64,), float("nan"))
    torch.save(tensors, copy / "controlnet" / "pose.pth")
    model = load(described(copy))
    with pytest.raises(UserError, match=r"pose\.pth cannot be used: .* contains infinities or NaN"):
        pose_pipeline(model)


def test_a_controlnet_for_many_purposes_is_named(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    path = folder / "controlnet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "ControlNetUnionModel"}))
    assert_left_out(folder, "is of type ControlNetUnionModel, but only ControlNetModel works here")


def kinds(folder: Path) -> dict[str, tuple[str, str]]:
    return {name: (each.kind, each.path.name) for name, each in described(folder).controlnets.items()}


def test_all_that_lie_there_are_listed_by_what_they_are_for(copy: Path, controlnet: ControlNetModel) -> None:
    for name in ("control_v11p_sd15_canny", "control_v11p_sd15_openpose", "control_v11f1p_sd15_depth", "mine", "own"):
        torch.save(original_controlnet(controlnet), copy / "controlnet" / f"{name}.pth")
    for name in ("scribbles", "another-depth"):
        controlnet.save_pretrained(copy / "controlnets" / name)
    assert kinds(copy) == {
        "pose": ("pose", "control_v11p_sd15_openpose.pth"),
        "canny": ("canny", "control_v11p_sd15_canny.pth"),
        "depth": ("depth", "control_v11f1p_sd15_depth.pth"),
        "another-depth": ("depth", "another-depth"),
        "scribble": ("scribble", "scribbles"),
        "mine": ("", "mine.pth"),
        "own": ("", "own.pth"),
    }
    titles = [described(copy).controlnets[name].title for name in ("pose", "canny", "another-depth", "mine")]
    assert titles == ["Poses", "Edges", "another-depth", "mine"]


@pytest.mark.parametrize(
    ("noted", "kind"),
    [("lllyasviel/control_v11p_sd15_canny", "canny"), ("runs/my-openpose", "pose"), ("runs/mine", "pose"), (7, "pose")],
)
def test_a_folder_is_told_by_where_it_came_from(
    tiny_bundle_dir: Path, tmp_path: Path, noted: object, kind: str
) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    path = folder / "controlnet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_name_or_path": noted}))
    assert kinds(folder) == {kind: (kind, "controlnet")}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["control_v11p_sd15_canny.pth"], {"canny": "canny"}),
        (["a.pth"], {"pose": "pose"}),
        (["a.pth", "control_v11p_sd15_canny.pth"], {"pose": "pose", "canny": "canny"}),
        (["a.pth", "b.pth"], {"a": "", "b": ""}),
        (["pose1.pth", "pose2.pth"], {"pose": "pose", "pose2": "pose"}),
    ],
)
def test_one_that_is_for_something_else_is_not_taken_for_poses(
    copy: Path, controlnet: ControlNetModel, names: list[str], expected: dict[str, str]
) -> None:
    for name in names:
        torch.save(original_controlnet(controlnet), copy / "controlnet" / name)
    assert {name: kind for name, (kind, _) in kinds(copy).items()} == expected
    if "pose" not in expected:
        with pytest.raises(UserError, match="has no ControlNet for poses; please choose another model"):
            described(copy).controlnet("pose")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["animal_openpose", "control_v11p_sd15_openpose", "densepose"],
            {"pose": "control_v11p_sd15_openpose", "animal_openpose": "animal_openpose", "densepose": "densepose"},
        ),
        (["a_pose", "dwpose"], {"pose": "dwpose", "a_pose": "a_pose"}),
        (["a_pose", "XLOpenPose"], {"pose": "XLOpenPose", "a_pose": "a_pose"}),
        (["animal_openpose"], {"animal_openpose": "animal_openpose"}),
        (["composed-edges", "general_purpose_controlnet"], None),
        (["uncanny", "unhedged"], None),
        (["sdxlCanny"], {"canny": "sdxlCanny"}),
        (["control_v11p_sd15_normalbae"], {"normal": "control_v11p_sd15_normalbae"}),
        (["sdxl_segmentation_ade20k"], {"seg": "sdxl_segmentation_ade20k"}),
        (["control_v1p_sd15_qrcode_monster"], {"qr": "control_v1p_sd15_qrcode_monster"}),
        (["SoftEdge"], {"softedge": "SoftEdge"}),
        (["line-art"], {"lineart": "line-art"}),
    ],
)
def test_a_kind_is_told_by_whole_words(
    copy: Path, controlnet: ControlNetModel, names: list[str], expected: dict[str, str] | None
) -> None:
    for name in names:
        controlnet.save_pretrained(copy / "controlnets" / name)
    found = kinds(copy)
    assert {name: file for name, (_, file) in found.items()} == (expected or {name: name for name in names})
    assert {kind for name, (kind, _) in found.items() if "animal" in name or "dense" in name} <= {""}


def test_one_that_cannot_be_used_takes_no_other_with_it(copy: Path, controlnet: ControlNetModel) -> None:
    torch.save(original_controlnet(controlnet), copy / "controlnet" / "openpose.pth")
    torch.save({"lora_unet.lora_up.weight": torch.zeros(1)}, copy / "controlnet" / "canny.pth")
    controlnet.save_pretrained(copy / "controlnets" / "depth")
    (copy / "controlnets" / "depth" / "config.json").write_text("{")
    (copy / "controlnets" / "tile").mkdir()
    entry = described(copy)
    assert list(entry.controlnets) == ["pose"]
    assert set(entry.controlnets_left_out) == {"canny", "depth", "tile"}
    assert entry.controlnets_left_out["canny"].startswith("canny.pth is a LoRA, not a ControlNet")
    assert "is not readable JSON" in entry.controlnets_left_out["depth"]
    assert "holds no config.json" in entry.controlnets_left_out["tile"]
    assert_loaded(copy, controlnet)


def test_a_checkpoint_file_has_those_in_the_folder_beside_it(
    tiny_bundle_dir: Path, tmp_path: Path, controlnet: ControlNetModel
) -> None:
    file = tmp_path / "dream.safetensors"
    write_single_file(tiny_bundle_dir, file)
    controlnet.save_pretrained(tmp_path / "dream" / "controlnets" / "depth")
    tiny_controlnet(tiny_sdxl_unet()).save_pretrained(tmp_path / "dream" / "controlnets" / "canny")
    entry = entry_from_file(file, name="dream")
    assert list(entry.controlnets) == ["depth"]
    assert "(text tokens 64 wide), but" in entry.controlnets_left_out["canny"]


def test_each_is_read_when_it_is_asked_for_and_makes_room_for_the_next(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    others = {name: tiny_controlnet(tiny_unet(), seed=seed) for seed, name in enumerate(("depth", "canny"), 20)}
    for name, network in others.items():
        network.save_pretrained(folder / "controlnets" / name)
    model = load(described(folder))
    usual = pose_pipeline(model)
    assert pose_pipeline(model).controlnet is usual.controlnet, "the first one is there from the beginning"
    for name, network in others.items():
        pipeline: Any = model.pipeline("controlnet", controlnet=model.entry.controlnet(name))
        assert len(model.controlnets) == 1, "no more is held than was planned for"
        assert (pipeline.unet, pipeline.vae) == (usual.unet, usual.vae)
        assert not any(parameter.requires_grad for parameter in pipeline.controlnet.parameters())
        assert_equal(pipeline.controlnet, network)


@pytest.mark.parametrize("is_file", [False, True])
def test_what_made_room_is_in_memory_no_more(copy: Path, controlnet: ControlNetModel, is_file: bool) -> None:
    (copy / "controlnets").mkdir()
    for name in ("pose", "depth"):
        if is_file:
            torch.save(original_controlnet(controlnet), copy / "controlnets" / f"{name}.pth")
        else:
            controlnet.save_pretrained(copy / "controlnets" / name)
    model = load(described(copy))
    first = weakref.ref(model.pipeline("controlnet", controlnet=model.entry.controlnet("pose")).controlnet)
    model.pipeline("controlnet", controlnet=model.entry.controlnet("depth"))
    gc.collect()
    assert first() is None
    assert_equal(pose_pipeline(model).controlnet, controlnet)


def test_one_that_has_changed_since_is_told_and_read_once_it_is_whole(copy: Path, controlnet: ControlNetModel) -> None:
    (copy / "controlnets").mkdir()
    for name in ("pose", "depth"):
        torch.save(original_controlnet(controlnet), copy / "controlnets" / f"{name}.pth")
    model, path = load(described(copy)), copy / "controlnets" / "depth.pth"
    whole = path.read_bytes()
    for content, words in (
        (None, r"controlnets/depth\.pth cannot be read \(.*\); is its disk connected\?"),
        (whole[: len(whole) // 2], r"controlnets/depth\.pth is not a plain weights file"),
    ):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            model.pipeline("controlnet", controlnet=model.entry.controlnet("depth"))
    path.write_bytes(whole)
    pipeline: Any = model.pipeline("controlnet", controlnet=model.entry.controlnet("depth"))
    assert_equal(pipeline.controlnet, controlnet)


def test_memory_is_planned_for_the_largest(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    one = load(described(folder)).memory.needed
    tiny_controlnet(tiny_unet()).save_pretrained(folder / "controlnets" / "depth")
    assert load(described(folder)).memory.needed == one
