"""A UNet with a merged LoRA beside the plain one: what they share, and which files are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.fast_way import with_lora
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.loading import load_model
from tests.tiny_models import TINY_LORA, random_lora_tensors, tiny_fast_way, tiny_unet

Tensors = dict[str, torch.Tensor]
INPUTS = (torch.randn(2, 4, 8, 8), torch.tensor([999, 10]), torch.randn(2, 7, 32))


def load(bundle: Path, *, dtype: torch.dtype = torch.float32, **changes: Any) -> LoadedModel:
    entry = replace(entry_from_folder(bundle, name="tiny"), fast=tiny_fast_way(bundle, **changes))
    return load_model(entry, device="cpu", dtype=dtype, report=lambda *_: None)


def changed(
    unet: UNet2DConditionModel, file: Path, *, pipeline: StableDiffusionPipeline, is_merged: bool = True
) -> UNet2DConditionModel:
    return with_lora(unet, file, pipeline=pipeline, title="Tiny", is_merged=is_merged)


@pytest.fixture(scope="module")
def pipeline(tiny_bundle_dir: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(tiny_bundle_dir, dtype=torch.float32)


@torch.no_grad()
def test_weights_change_by_what_the_formula_says_and_the_plain_unet_keeps_its_own(
    pipeline: StableDiffusionPipeline, tiny_bundle_dir: Path
) -> None:
    """W' = W + alpha / r B A (Hu et al. 2021, section 4.1)."""
    unet, tensors = pipeline.unet, load_file(tiny_bundle_dir / TINY_LORA)
    before = {name: weight.clone() for name, weight in unet.state_dict().items()}
    merged = changed(unet, tiny_bundle_dir / TINY_LORA, pipeline=pipeline).state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in unet.state_dict().items())
    assert merged.keys() == before.keys()
    for name, weight in before.items():
        key = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
        expected = weight
        if f"{key}.alpha" in tensors:
            up, down = (tensors[f"{key}.lora_{side}.weight"].flatten(1) for side in ("up", "down"))
            expected = weight + (tensors[f"{key}.alpha"] / len(down) * up @ down).view_as(weight)
        torch.testing.assert_close(merged[name], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_merged_or_added_as_it_draws_it_is_the_same_and_only_one_takes_the_memory(
    pipeline: StableDiffusionPipeline, tiny_bundle_dir: Path
) -> None:
    merged, added = (
        changed(pipeline.unet, tiny_bundle_dir / TINY_LORA, pipeline=pipeline, is_merged=each) for each in (True, False)
    )
    torch.testing.assert_close(merged(*INPUTS).sample, added(*INPUTS).sample, rtol=0, atol=1e-4)
    assert (merged(*INPUTS).sample - pipeline.unet(*INPUTS).sample).abs().max() > 0.1
    plain = {each.data_ptr() for each in pipeline.unet.parameters()}
    assert sum(each.nbytes for each in added.parameters() if each.data_ptr() not in plain) == sum(
        tensor.nbytes for name, tensor in load_file(tiny_bundle_dir / TINY_LORA).items() if ".lora_" in name
    )
    assert {name for name, _ in merged.named_parameters()} == {name for name, _ in pipeline.unet.named_parameters()}
    assert not any(each.requires_grad for each in (*merged.parameters(), *added.parameters()))


@pytest.mark.parametrize("is_merged", [True, False])
def test_it_keeps_to_the_models_precision(
    tiny_bundle_dir: Path, is_merged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipa_app.models.loading._has_room", lambda _size, **_: is_merged)
    model = load(tiny_bundle_dir, dtype=torch.bfloat16)
    unet, _ = model.fast.read()
    assert {each.dtype for each in unet.parameters()} == {torch.bfloat16}
    with model.in_float32():
        assert {each.dtype for each in unet.parameters()} == {torch.float32}
    assert {each.dtype for each in unet.parameters()} == {torch.bfloat16}


def test_it_is_read_once_and_when_it_is_asked_for(tiny_bundle_dir: Path) -> None:
    model = load(tiny_bundle_dir)
    assert model.fast.networks == []
    first: Any = model.pipeline("text_to_image", is_fast=True)
    second: Any = model.pipeline("inpaint", is_fast=True)
    assert first.unet is second.unet is model.fast.networks[0]
    own: Any = model.pipeline("text_to_image")
    assert own.unet is model.pipelines["text_to_image"].components["unet"]
    assert own.unet is not first.unet
    assert (type(first.scheduler).__name__, type(own.scheduler).__name__) == ("LCMScheduler", "DDIMScheduler")
    assert first.scheduler is not second.scheduler


def test_a_scheduler_that_does_not_exist_is_named(tiny_bundle_dir: Path) -> None:
    with pytest.raises(UserError, match="NoSuchScheduler"):
        load(tiny_bundle_dir, scheduler="NoSuchScheduler").fast.read()


def without_a_layer_here(tensors: Tensors) -> Tensors:
    return (
        tensors
        | {"lora_unet_up_blocks_7_resnets_0_conv1.lora_down.weight": torch.zeros(4, 8, 3, 3)}
        | {"lora_unet_up_blocks_7_resnets_0_conv1.lora_up.weight": torch.zeros(8, 4, 1, 1)}
    )


def without(tensors: Tensors, part: str) -> Tensors:
    left_out = next(name for name in tensors if part in name)
    return {name: tensor for name, tensor in tensors.items() if name != left_out}


def of_text(tensors: Tensors) -> Tensors:
    key = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    return tensors | {f"{key}.lora_down.weight": torch.zeros(4, 32), f"{key}.lora_up.weight": torch.zeros(32, 4)}


REFUSED: dict[str, Callable[[Tensors], Tensors]] = {
    "another model's": lambda _: random_lora_tensors(tiny_unet(cross_attention_dim=48)),
    "with a layer that is not there": without_a_layer_here,
    "with a part for the text encoder": of_text,
    "no LoRA": lambda _: {"weight": torch.zeros(3)},
    "with half of a pair": lambda tensors: without(tensors, ".lora_up."),
    "with the other half": lambda tensors: without(tensors, ".lora_down."),
    "with DoRA scales": lambda tensors: (
        tensors | {f"{name.partition('.')[0]}.dora_scale": torch.ones(1) for name in tensors}
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_lora_of_this_unet_alone_is_refused(
    what: str, pipeline: StableDiffusionPipeline, tiny_bundle_dir: Path, tmp_path: Path
) -> None:
    before = {name: weight.clone() for name, weight in pipeline.unet.state_dict().items()}
    save_file(REFUSED[what](load_file(tiny_bundle_dir / TINY_LORA)), tmp_path / "a.safetensors")
    with pytest.raises(
        UserError, match=r"Tiny cannot draw fast: a\.safetensors is not a LoRA that changes only this model's"
    ):
        changed(pipeline.unet, tmp_path / "a.safetensors", pipeline=pipeline)
    assert before.keys() == pipeline.unet.state_dict().keys()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (Path.exists, "its LoRA a.safetensors is missing"),
        (lambda path: path.write_bytes(b"{}"), "a.safetensors in .* is damaged or incomplete"),
        (lambda path: torch.save({}, path), "a.safetensors is a PyTorch file"),
        (
            lambda path: save_file({name: each * torch.nan for name, each in LORA.items()}, path),
            "a.safetensors cannot be used: read as float32, .* contains infinities or NaN",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    what: Callable[[Path], object], said: str, pipeline: StableDiffusionPipeline, tmp_path: Path
) -> None:
    what(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=said):
        changed(pipeline.unet, tmp_path / "a.safetensors", pipeline=pipeline)


LORA = random_lora_tensors(tiny_unet())


def test_a_file_with_its_ending_in_capitals_is_read(
    pipeline: StableDiffusionPipeline, tiny_bundle_dir: Path, tmp_path: Path
) -> None:
    save_file(load_file(tiny_bundle_dir / TINY_LORA), tmp_path / "A.SAFETENSORS")
    ours = changed(pipeline.unet, tmp_path / "A.SAFETENSORS", pipeline=pipeline).state_dict()
    theirs = changed(pipeline.unet, tiny_bundle_dir / TINY_LORA, pipeline=pipeline).state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())
