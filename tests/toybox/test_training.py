"""Training a stage: it resumes where it stopped, and skips steps that are not finite."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from toybox.recipe.settings import StageSettings
from toybox.recipe.training import Figures, UnfinishedError, train_module

_LONG = StageSettings(samples=80, batch_size=8, lr=0.1)


def test_a_stopped_stage_ends_as_one_that_was_not(tmp_path: Path) -> None:
    def weights(folder: Path, *budgets: int) -> torch.Tensor:
        folder.mkdir()
        for samples in budgets:
            torch.manual_seed(1)
            module = torch.nn.Linear(4, 1)

            def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
                batch = torch.randn(8, 4, generator=generator)
                return (module(batch) - batch.sum(dim=1, keepdim=True)).pow(2).mean(), {}  # noqa: B023

            settings = dataclasses.replace(_LONG, samples=samples)
            train_module("line", module=module, loss=loss, settings=settings, folder=folder)
        return module.weight.detach()

    # The learning rate follows the budget, so the second run is compared with its own straight run:
    # one step more after a resume moves on from where the first one stopped.
    first, resumed = weights(tmp_path / "a", 80), weights(tmp_path / "b", 80, 160)
    target = torch.ones(1, 4)
    assert (resumed - target).abs().mean() < (first - target).abs().mean()


def test_a_limit_of_minutes_stops_a_stage_which_says_so_and_goes_on(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = torch.nn.Linear(4, 1)
    rates: list[float] = []

    def loss(generator: torch.Generator, fraction: float) -> tuple[torch.Tensor, Figures]:
        rates.append(fraction)
        return module(torch.randn(8, 4, generator=generator)).square().mean(), {}

    short = dataclasses.replace(_LONG, minutes=1e-9)
    with pytest.raises(UnfinishedError, match=r"line stopped after 1e-09 minutes and 8 of 80 samples"):
        train_module("line", module=module, loss=loss, settings=short, folder=tmp_path)
    seen = train_module("line", module=module, loss=loss, settings=_LONG, folder=tmp_path)
    assert seen == 80
    # Whatever time a step takes, its effect follows from the samples alone.
    assert rates == pytest.approx([step / 10 for step in range(10)])


def test_a_step_whose_gradients_are_no_numbers_is_left_out(tmp_path: Path) -> None:
    def weights(folder: Path, broken: set[int]) -> torch.Tensor:
        folder.mkdir()
        torch.manual_seed(1)
        module = torch.nn.Linear(4, 1)
        steps = iter(range(_LONG.samples // _LONG.batch_size))

        def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
            batch = torch.randn(8, 4, generator=generator)
            # The root of 0 is finite, but its gradient is not.
            nothing = (0 * module.weight).sum().sqrt() if next(steps) in broken else 0
            return (module(batch) - 1).pow(2).mean() + nothing, {}

        train_module("line", module=module, loss=loss, settings=_LONG, folder=folder)
        return module.weight.detach()

    whole, most = weights(tmp_path / "a", set()), weights(tmp_path / "b", {3, 4})
    assert most.isfinite().all()
    assert not torch.equal(most, whole)


def test_a_stage_ends_that_leaves_out_more_than_a_few_steps(tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 1)
    steps = iter(range(200))

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        nothing = (0 * module.weight).sum().sqrt() if next(steps) % 50 == 1 else 0
        return module(torch.randn(8, 4, generator=generator)).square().mean() + nothing, {}

    long = dataclasses.replace(_LONG, samples=1600)
    with pytest.raises(FloatingPointError, match="4 of the latest 200 steps of line"):
        train_module("line", module=module, loss=loss, settings=long, folder=tmp_path)
