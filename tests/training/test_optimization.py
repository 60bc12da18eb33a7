"""Optimizer steps: schedule, clipping, non-finite gradients, averaged weights, and resuming."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ipa_app.training.distributed import new_accelerator
from ipa_app.training.optimization import MAX_NONFINITE_STEPS, Optimization, OptimizationConfig
from tests.precision import own_precision

CONFIG = OptimizationConfig(max_steps=100, learning_rate=0.1)


@pytest.fixture(scope="module", autouse=True)
def single_precision() -> Iterator[None]:
    with own_precision():
        yield


def make(config: OptimizationConfig) -> Optimization:
    torch.manual_seed(0)
    return Optimization(nn.Linear(4, 1), config, accelerator=new_accelerator("no"))


def advance(optimization: Optimization, *, scale: float = 1.0) -> None:
    batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(optimization.step))

    def loss() -> Tensor:
        return scale * (optimization.model(batch) - 1).square().mean()

    optimization.advance([loss])


def weights(optimization: Optimization) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in optimization.parameters])


def test_the_learning_rate_rises_then_follows_its_schedule() -> None:
    config = replace(CONFIG, lr_schedule="cosine", warmup_steps=10)
    expected = [0.1 * (0.05 + 0.95 * (1 + math.cos(math.pi * step / 100)) / 2) for step in (0, 4, 50, 100)]
    rates = [config.learning_rate_after(step) for step in (0, 4, 50, 100)]
    assert rates == pytest.approx([0.1 * expected[0], 0.5 * expected[1], *expected[2:]])


def test_a_clipped_step_is_the_same_however_large_the_loss_is() -> None:
    config = replace(CONFIG, max_grad_norm=1e-3)
    once, thousandfold = make(config), make(config)
    advance(once)
    advance(thousandfold, scale=1000)
    assert torch.allclose(weights(once), weights(thousandfold), atol=1e-5)
    assert thousandfold.grad_norm == pytest.approx(1000 * float(once.grad_norm), rel=1e-3)


@pytest.mark.parametrize("max_grad_norm", [1.0, math.inf])
def test_steps_without_numbers_change_nothing_and_too_many_of_them_end_the_training(max_grad_norm: float) -> None:
    optimization = make(replace(CONFIG, max_grad_norm=max_grad_norm))
    before = weights(optimization)
    for _ in range(MAX_NONFINITE_STEPS - 1):
        advance(optimization, scale=math.nan)
    assert torch.equal(weights(optimization), before)
    assert optimization.step == MAX_NONFINITE_STEPS - 1
    with pytest.raises(FloatingPointError, match="not finite"):
        advance(optimization, scale=math.nan)


def test_attention_whose_gradients_are_now_and_then_no_numbers_is_left_alone_while_weights_learn() -> None:
    optimization, enabled = make(CONFIG), torch.backends.cuda.cudnn_sdp_enabled
    before, seen = enabled(), []

    def loss() -> Tensor:
        seen.append(enabled())
        return optimization.model(torch.ones(1, 4)).mean()

    optimization.advance([loss])
    assert seen == [False]
    assert enabled() == before


def test_one_good_step_begins_the_count_anew() -> None:
    optimization = make(replace(CONFIG, max_grad_norm=1.0))
    for number in range(2 * MAX_NONFINITE_STEPS):
        advance(optimization, scale=1.0 if number % 10 == 9 else math.nan)
    assert optimization.step == 2 * MAX_NONFINITE_STEPS


def test_the_average_is_shown_and_given_back_and_kept_at_the_end() -> None:
    optimization = make(replace(CONFIG, ema_decay=0.999))
    for _ in range(5):
        advance(optimization)
    trained, shown = weights(optimization), []
    optimization.use_average(lambda: shown.append(weights(optimization)))
    assert torch.equal(weights(optimization), trained)
    assert not torch.equal(shown[0], trained)
    optimization.keep_average()
    assert torch.equal(weights(optimization), shown[0])


def test_what_is_restored_goes_on_as_if_it_had_not_stopped() -> None:
    config = replace(CONFIG, ema_decay=0.999, max_grad_norm=1.0, lr_schedule="cosine")
    through, first, second = make(config), make(config), make(config)
    for _ in range(6):
        advance(through)
    for _ in range(3):
        advance(first)
    second.model.load_state_dict(first.model.state_dict())
    second.restore(first.state(), step=3)
    for _ in range(3):
        advance(second)
    assert torch.equal(weights(second), weights(through))
    for optimization in (through, second):
        optimization.keep_average()
    assert torch.equal(weights(second), weights(through))
