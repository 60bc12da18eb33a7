"""What is trained, and what stays frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler

from ipa_app.adapter.attention import install_processors
from ipa_app.adapter.image_prompt import ImagePromptBatch
from ipa_app.training.adapters import new_adapter
from ipa_app.training.components import Components, load_components
from ipa_app.training.config import TrainConfig
from ipa_app.training.examples import Draws, TrainingBatch, draw
from ipa_app.training.loop import GuidedUNet, Trainer, learning_rate, make_accelerator
from ipa_app.training.loss import HeldoutLoss, mse, prediction_target
from ipa_app.training.run import prepare_base

Batches = Callable[..., Iterator[TrainingBatch]]


def make_trainer(config: TrainConfig, base: Components) -> Trainer:
    accelerator = make_accelerator(config)
    prepare_base(base, config, accelerator)
    return Trainer(config, base=base, adapter=new_adapter(config, base), accelerator=accelerator)


def weights_after(config: TrainConfig, base: Components, batches: Iterator[TrainingBatch]) -> dict[str, torch.Tensor]:
    trainer = make_trainer(config, base)
    for loss in trainer.run(batches):
        assert loss.isfinite()
        if trainer.step == config.max_steps:
            break
    return trainer.adapter.state_dict()


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_every_weight_of_the_adapter_is_trained_and_none_of_the_base(
    kind: str, base: Components, make_config: Callable[..., TrainConfig], batches: Batches, frozen_weights: None
) -> None:
    config = make_config(adapter=kind, max_steps=2)
    before = new_adapter(config, base).state_dict()
    after = weights_after(config, base, batches(kind=kind))
    unchanged = [name for name in before if torch.equal(before[name], after[name])]
    assert unchanged == []


def test_new_keys_and_values_start_as_the_text_ones(base: Components, make_config: Callable[..., TrainConfig]) -> None:
    adapter = new_adapter(make_config(), base)
    for number, name in zip(adapter.ip_adapter, adapter.layer_names, strict=True):
        attention = base.unet.get_submodule(name.removesuffix(".processor"))
        assert torch.equal(adapter.ip_adapter[number].to_k_ip.weight, attention.to_k.weight)
        assert torch.equal(adapter.ip_adapter[number].to_v_ip.weight, attention.to_v.weight)


@pytest.mark.parametrize(("kind", "scale"), [("base", 1.0), ("plus", 1.0), ("base", 0.75)])
def test_the_loop_guides_the_unet_as_the_app_does(
    kind: str, scale: float, base: Components, make_config: Callable[..., TrainConfig], batches: Batches
) -> None:
    install_processors(base.unet)
    adapter = new_adapter(make_config(adapter=kind), base)
    batch = next(batches(kind=kind))
    timesteps = torch.tensor([10, 600])
    with torch.no_grad():
        guided = GuidedUNet(base.unet, adapter, scale=scale)
        trained = guided(batch.latents, timesteps, batch.text_states, batch.features)
        prompts = [[adapter.image_prompt(row[None], None, scale=scale)] for row in batch.features]
        stacked = ImagePromptBatch.stack(prompts, guidance=False, steps=1)
        drawn = base.unet(
            batch.latents, timesteps, batch.text_states, cross_attention_kwargs={"image_prompt": stacked}
        ).sample
        plain = base.unet(batch.latents, timesteps, batch.text_states).sample
    assert torch.allclose(trained, drawn, atol=1e-5)
    assert not torch.allclose(trained, plain, atol=1e-3)


def test_a_picture_of_another_scale_teaches_something_else(
    base: Components, make_config: Callable[..., TrainConfig], batches: Batches
) -> None:
    usual, lower = (weights_after(make_config(scale=scale), base, batches()) for scale in (1.0, 0.75))
    assert any(not torch.equal(usual[name], lower[name]) for name in usual)


@pytest.mark.parametrize(("drop", "part"), [("drop_text", "text_states"), ("drop_image", "features")])
@pytest.mark.parametrize("kind", ["base", "plus"])
def test_a_dropped_part_is_trained_as_the_unconditional_side(
    kind: str, drop: str, part: str, base: Components, make_config: Callable[..., TrainConfig], batches: Batches
) -> None:
    none = {"drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0}
    trainer = make_trainer(make_config(adapter=kind), base)
    empty = trainer.encoder.empty_text.states if part == "text_states" else trainer.encoder.empty_features
    emptied = (replace(batch, **{part: empty.expand(2, *empty.shape[1:])}) for batch in batches(kind=kind))
    dropped = weights_after(make_config(adapter=kind, **none | {drop: 1.0}), base, batches(kind=kind))
    expected = weights_after(make_config(adapter=kind, **none), base, emptied)
    assert all(torch.allclose(dropped[name], expected[name], atol=1e-6) for name in expected)


def test_no_picture_is_a_zero_embedding_or_the_tower_on_zeros(
    base: Components, make_config: Callable[..., TrainConfig]
) -> None:
    assert make_trainer(make_config(adapter="base"), base).encoder.empty_features.count_nonzero() == 0
    with torch.no_grad():
        tower = base.image_encoder(torch.zeros(1, 3, 32, 32), output_hidden_states=True).hidden_states[-2]
    assert torch.equal(make_trainer(make_config(adapter="plus"), base).encoder.empty_features, tower)


def test_drops_are_exclusive_and_in_the_shares_asked_for() -> None:
    draws = draw(
        torch.Size([20_000, 1, 1, 1]),
        generator=torch.Generator().manual_seed(0),
        num_train_timesteps=1000,
        drop_text=0.05,
        drop_image=0.1,
        drop_both=0.2,
    )
    both = draws.no_text & draws.no_image
    shares = [(draws.no_text & ~both), (draws.no_image & ~both), both]
    assert [share.float().mean().item() for share in shares] == pytest.approx([0.05, 0.1, 0.2], abs=0.01)
    assert draws.timesteps.min() == 0
    assert draws.timesteps.max() == 999


def test_late_timesteps_are_noisier_and_still_all_there() -> None:
    def timesteps(*, late: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        shares = {"drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0}
        shape = torch.Size([20_000, 1, 1, 1])
        return draw(shape, generator=generator, num_train_timesteps=1000, late=late, **shares).timesteps.float()

    # The mean of 1 - u^3 is 3/4, that of u is 1/2.
    assert timesteps(late=True).mean().item() == pytest.approx(749.5, abs=10)
    assert timesteps(late=False).mean().item() == pytest.approx(499.5, abs=10)
    assert timesteps(late=True).min() < 10
    assert timesteps(late=True).max() == 999


def test_targets_are_the_formulas() -> None:
    latents, noise = torch.randn(2, 2, 4, 3, 3)
    timesteps = torch.tensor([3, 700])
    schedule = DDPMScheduler(prediction_type="epsilon")
    assert torch.equal(prediction_target(schedule, latents, noise=noise, timesteps=timesteps), noise)
    schedule = DDPMScheduler(prediction_type="v_prediction")
    alpha_bar = schedule.alphas_cumprod[timesteps].view(2, 1, 1, 1)
    velocity = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents
    assert torch.allclose(prediction_target(schedule, latents, noise=noise, timesteps=timesteps), velocity)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_first_timesteps_have_their_noise_in_any_precision(
    precision: str,
    tiny_bundle_dir: Path,
    make_config: Callable[..., TrainConfig],
    batches: Batches,
    fresh_accelerate: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In half precision it would be rounded to zero."""
    own = load_components(tiny_bundle_dir)  # not the shared one: its weights are rounded
    trainer = make_trainer(make_config(mixed_precision=precision), own)
    seen: list[torch.Tensor] = []
    own.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    first, cat = torch.tensor([0, 1]), Draws.cat
    monkeypatch.setattr("ipa_app.training.loop.Draws.cat", lambda found: replace(cat(found), timesteps=first))
    latents = torch.zeros(2, 4, 8, 8)
    next(trainer.run(replace(batch, latents=latents, latents_std=None) for batch in batches()))
    assert seen[0].dtype == own.unet.dtype
    expected = (1 - trainer.schedule.alphas_cumprod[first]).sqrt()
    assert seen[0].float().std(dim=(1, 2, 3)).tolist() == pytest.approx(expected.tolist(), rel=0.2)


def test_accumulating_takes_that_many_batches_per_step(
    base: Components, make_config: Callable[..., TrainConfig], batches: Batches
) -> None:
    config = make_config(gradient_accumulation_steps=2, max_steps=3)
    trainer = make_trainer(config, base)
    source = batches()
    steps = trainer.run(source)
    for _ in range(3):
        next(steps)
    assert trainer.step == 3
    updates = trainer.checkpoint(seconds=0.0).optimization["optimizer"]["state"].values()
    assert {int(weight["step"]) for weight in updates} == {3}
    assert torch.equal(next(source).latents, next(batches(start=6)).latents)


def test_gradient_checkpointing_computes_twice_and_trains_the_same(
    base: Components, make_config: Callable[..., TrainConfig], batches: Batches
) -> None:
    calls = []
    block = base.unet.mid_block.attentions[0].transformer_blocks[0]
    hook = block.register_forward_pre_hook(lambda *_: calls.append(1))  # a pre-hook, as recomputation may stop early
    usual = weights_after(make_config(max_steps=2), base, batches())
    assert len(calls) == 2
    saving = weights_after(make_config(max_steps=2, gradient_checkpointing=True), base, batches())
    assert len(calls) == 2 + 4
    hook.remove()
    assert all(torch.allclose(usual[name], saving[name], atol=1e-6) for name in usual)


def test_the_same_examples_in_other_batches_are_the_same_step(
    base: Components, make_config: Callable[..., TrainConfig], batches: Batches
) -> None:
    def halves() -> Iterator[TrainingBatch]:
        for batch in batches(rows=4):
            parts = ("latents", "latents_std", "text_states", "features")
            for half in (slice(0, 2), slice(2, 4)):
                yield TrainingBatch(**{name: getattr(batch, name)[half] for name in parts})

    whole = weights_after(make_config(max_steps=2, batch_size=4), base, batches(rows=4))
    accumulating = make_config(max_steps=2, batch_size=2, gradient_accumulation_steps=2)
    parts = weights_after(accumulating, base, halves())
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)


def test_training_makes_the_picture_help(
    base: Components, make_config: Callable[..., TrainConfig], batches: Batches
) -> None:
    config = make_config(max_steps=50, learning_rate=3e-3)
    trainer = make_trainer(config, base)
    few = [replace(next(batches(rows=4)), latents_std=None)]
    heldout = HeldoutLoss(few, encoder=trainer.encoder, schedule=trainer.schedule, seed=0)
    before = heldout.measure(trainer.predict, step=0)
    for _ in trainer.run(iter(few * config.max_steps)):
        pass
    after = heldout.measure(trainer.predict, step=trainer.step)
    assert after.without_image == before.without_image
    assert after.with_image < before.with_image - 0.01
    assert after.with_image < after.without_image - 0.01


def test_the_cosine_schedule_falls_to_its_floor(make_config: Callable[..., TrainConfig]) -> None:
    config = make_config(lr_schedule="cosine", learning_rate=1e-3, max_steps=100)
    rates = [learning_rate(config, step) for step in (0, 50, 100)]
    assert rates == pytest.approx([1e-3, 5.25e-4, 5e-5])
    assert learning_rate(make_config(learning_rate=1e-3), 3) == 1e-3


def test_places_that_count_nothing_teach_nothing(
    base: Components, make_config: Callable[..., TrainConfig], batches: Batches
) -> None:
    nothing = (replace(batch, loss_weights=torch.zeros(2, 1, 8, 8)) for batch in batches())
    config = make_config(max_steps=1)
    trainer = make_trainer(config, base)
    assert next(trainer.run(nothing)).item() == 0


def test_the_weights_of_the_loss_are_those_of_its_places() -> None:
    prediction, target = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    weights = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]]]])
    assert mse(prediction, target, weights).item() == mse(prediction, target).item() == 1
    prediction[..., 0, 0] = 1
    assert mse(prediction, target, weights).item() == 0
