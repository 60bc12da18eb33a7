"""The few-step student: its target, its LoRA, and its inputs in training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from toybox.recipe.data import ToyData, load_or_draw
from toybox.recipe.denoiser import new_scheduler
from toybox.recipe.few_step.prompts import questions
from toybox.recipe.few_step.student import add_lora, save_lora
from toybox.recipe.few_step.trajectories import picture_between, velocity_between
from toybox.recipe.settings import TINY


@pytest.fixture(scope="module")
def scheduler() -> DDIMScheduler:
    scheduler = new_scheduler()
    scheduler.set_timesteps(20)
    return scheduler


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ToyData:
    return load_or_draw(TINY, tmp_path_factory.mktemp("data"), "train")


@pytest.mark.parametrize("step", [0, 7, 19])
def test_a_ddim_step_with_the_velocity_between_two_states_leads_from_one_to_the_other(
    scheduler: DDIMScheduler, step: int
) -> None:
    generator = torch.Generator().manual_seed(step)
    here, there, wrong = torch.randn(3, 2, 4, 8, 8, generator=generator)
    timesteps = torch.cat([scheduler.timesteps, torch.tensor([-1])])
    moments = (timesteps[step].expand(2), timesteps[step + 1].expand(2))
    velocity, reach = velocity_between(scheduler, here, there, moments)
    landed, beside = (
        scheduler.step(each, int(moments[0][0]), here).prev_sample for each in (velocity, velocity + wrong)
    )
    assert torch.allclose(landed, there, atol=1e-4)
    assert torch.allclose((beside - there).abs(), reach * wrong.abs(), atol=1e-4)


def test_the_picture_in_view_is_the_one_that_the_step_was_taken_towards(scheduler: DDIMScheduler) -> None:
    generator = torch.Generator().manual_seed(0)
    here, velocity = torch.randn(2, 1, 4, 8, 8, generator=generator)
    moments = (scheduler.timesteps[5:6], scheduler.timesteps[6:7])
    step = scheduler.step(velocity, int(moments[0]), here)
    assert torch.allclose(
        picture_between(scheduler, here, step.prev_sample, moments), step.pred_original_sample, atol=1e-3
    )


def test_a_change_of_full_rank_can_be_any_and_begins_as_none(tiny_bundle_dir: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(tiny_bundle_dir / "unet").float()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    changes = add_lora(unet, 10_000)
    assert not any(parameter.requires_grad for name, parameter in unet.named_parameters() if name in before)
    for name, change in changes.items():
        assert torch.equal(unet.get_submodule(name).weight, before[f"{name}.weight"])
        assert min(change.up.shape[0], change.down.shape[1]) == change.up.shape[1]


@torch.no_grad()
def test_diffusers_reads_the_lora_as_what_was_trained(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_bundle_dir, dtype=torch.float32, safety_checker=None)
    changed = UNet2DConditionModel.from_pretrained(tiny_bundle_dir / "unet").float()
    changes = add_lora(changed, 4)
    torch.manual_seed(0)
    for change in changes.values():
        change.up.normal_(std=0.05)
    path = tmp_path / "four-steps.safetensors"
    save_lora(changes, path)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    pipe.load_lora_weights(tmp_path, weight_name=path.name)
    width = pipe.unet.config.cross_attention_dim
    inputs = (torch.randn(2, 4, 8, 8), torch.tensor([999, 10]), torch.randn(2, 7, width))
    plain = UNet2DConditionModel.from_pretrained(tiny_bundle_dir / "unet").float()(*inputs).sample
    trained, read = (unet(*inputs).sample for unet in (changed, pipe.unet))
    assert not torch.allclose(trained, plain, atol=1e-2)
    assert torch.allclose(read, trained, atol=2e-3)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert torch.allclose(pipe.unet(*inputs).sample, trained, atol=2e-3)


def test_the_student_is_asked_what_people_ask(data: ToyData) -> None:
    asked = questions(data, 4000, seed=1)
    assert asked == questions(data, 4000, seed=1)
    kinds = Counter(each.kind for each in asked)
    assert [kinds[kind] / 4000 for kind in ("base", "plus")] == pytest.approx([0.25, 0.25], abs=0.03)
    assert sum(each.pose is not None for each in asked) / 4000 == pytest.approx(0.25, abs=0.03)
    assert sum(each.filled is not None for each in asked) / 4000 == pytest.approx(0.15, abs=0.03)
    assert not any(each.pose is not None and each.filled is not None for each in asked)
    nothing = [each for each in asked if each.kind is None and not each.text]
    assert 0.02 < len(nothing) / 4000 < 0.1
    scales = [each.scale for each in asked if each.kind]
    assert 0 <= min(scales) < 0.1
    assert 1.4 < max(scales) <= 1.5
    assert all(each.scale == 0 for each in asked if each.kind is None)


def test_a_skeleton_goes_with_the_words_or_leads_the_reference_elsewhere(data: ToyData) -> None:
    for each in questions(data, 400, seed=1):
        if each.pose is not None and each.text in data.captions[each.picture]:
            assert each.pose == each.picture
        if each.pose is not None and each.kind:
            assert each.pose == each.picture ^ 1
