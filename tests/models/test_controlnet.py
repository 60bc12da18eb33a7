"""A model's ControlNet, as a folder or as one file; what is none, or belongs to another model, is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import save_file

from ipa_app.errors import UserError
from ipa_app.models.catalog import ModelEntry, entry_from_folder
from tests.checkpoints import load
from tests.malicious import Malicious
from tests.single_file import original_controlnet
from tests.tiny_models import tiny_controlnet, tiny_sdxl_unet, tiny_unet


@pytest.fixture(scope="module")
def controlnet() -> ControlNetModel:
    return tiny_controlnet(tiny_unet(), seed=9)


@pytest.fixture
def copy(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    """A model whose folder for the ControlNet is empty."""
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    shutil.rmtree(folder / "controlnet")
    (folder / "controlnet").mkdir()
    return folder


def described(folder: Path) -> ModelEntry:
    return entry_from_folder(folder, name="x")


def assert_loaded(folder: Path, controlnet: ControlNetModel) -> None:
    loaded = load(described(folder)).pipelines["pose"].controlnet.state_dict()
    expected = controlnet.state_dict()
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


def test_of_several_the_one_for_poses_is_taken(copy: Path, controlnet: ControlNetModel) -> None:
    for name in ("control_v11p_sd15_canny", "control_v11p_sd15_openpose", "control_v11f1p_sd15_depth"):
        torch.save(original_controlnet(controlnet), copy / "controlnet" / f"{name}.pth")
    assert described(copy).controlnets["pose"].name == "control_v11p_sd15_openpose.pth"


@pytest.mark.parametrize("names", [["control_v11p_sd15_canny.pth"], ["a.pth", "b.pth"], ["pose1.pth", "pose2.pth"]])
def test_one_that_is_for_something_else_is_not_taken_for_poses(
    copy: Path, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in names:
        (copy / "controlnet" / name).touch()
    assert not described(copy).controlnets
    assert "cannot be told which of" in caplog.text
    with pytest.raises(UserError, match="has no ControlNet for poses"):
        load(described(copy)).pipeline("pose")


def test_code_in_a_file_is_refused_and_not_run(copy: Path) -> None:
    proof = copy / "proof"
    torch.save({"control_model.x": Malicious(proof)}, copy / "controlnet" / "pose.pth")
    with pytest.raises(UserError, match=r"controlnet/pose\.pth is not a file of plain weights .* never run"):
        load(described(copy))
    assert not proof.exists()


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lora_unet.lora_up.weight": torch.zeros(1)}, "pose.pth is a LoRA and no ControlNet"),
        ({"weight": torch.zeros(1)}, "pose.pth is no file that is known here and no ControlNet"),
        ({"control_model.x": torch.zeros(1), "lora_controlnet": torch.zeros(1)}, "pose.pth is .* and no ControlNet"),
        ({"control_model.x": torch.zeros(4, 4, dtype=torch.int8)}, r"pose.pth is quantised \(int8\)"),
        ({"control_model.x": torch.zeros(4, 4)}, "pose.pth was made for another base model"),
    ],
)
def test_a_file_of_something_else_is_named(copy: Path, tensors: dict[str, torch.Tensor], words: str) -> None:
    torch.save(tensors, copy / "controlnet" / "pose.pth")
    with pytest.raises(UserError, match=words):
        load(described(copy))


def test_a_file_for_another_family_is_refused_with_both_sides(copy: Path) -> None:
    save_file(tiny_controlnet(tiny_sdxl_unet()).state_dict(), copy / "controlnet" / "pose.safetensors")
    words = r"pose\.safetensors was made for .* \(text tokens 64 wide\), but .* \(text tokens 32 wide\)"
    with pytest.raises(UserError, match=words):
        load(described(copy))


def test_weights_that_are_no_numbers_are_named(copy: Path, controlnet: ControlNetModel) -> None:
    tensors = original_controlnet(controlnet)
    tensors["control_model.middle_block_out.0.bias"] = torch.full((64,), float("nan"))
    torch.save(tensors, copy / "controlnet" / "pose.pth")
    with pytest.raises(UserError, match=r"pose\.pth cannot be drawn with: .* holds infinities or NaN"):
        load(described(copy))


def test_a_controlnet_for_many_purposes_is_named(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
    path = folder / "controlnet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "ControlNetUnionModel"}))
    with pytest.raises(UserError, match="is of the sort ControlNetUnionModel, but only ControlNetModel works here"):
        load(described(folder))
