"""Two processes that share every batch train the same model as one."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from accelerate import PartialState
from torch import nn

from ipa_app.errors import UserError
from toybox.recipe.settings import TINY, StageSettings
from toybox.recipe.stages import CONTINUED, STAGES, start_from
from toybox.recipe.training import recipe_accelerator, share, train_module

SETTINGS = StageSettings(samples=64, batch_size=8, lr=0.1)


def _model() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(4, 1)


def _error(model: nn.Linear, batch: torch.Tensor) -> torch.Tensor:
    return (model(batch) - batch.sum(dim=1, keepdim=True)).pow(2).mean()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _join(rank: int, port: int) -> None:
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    recipe_accelerator()


def _train_share(rank: int, folder: Path, port: int) -> None:
    _join(rank, port)
    model = _model()

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, dict[str, float]]:
        return _error(model, torch.randn(share(SETTINGS.batch_size), 4, generator=generator)), {}

    train_module("line", module=model, loss=loss, settings=SETTINGS, folder=folder)
    torch.save(model.state_dict(), folder / f"rank{rank}.pt")
    PartialState().destroy_process_group()


def test_sharing_a_batch_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    torch.multiprocessing.spawn(_train_share, args=(tmp_path / "two", _free_port()), nprocs=2)
    first, second = (torch.load(tmp_path / "two" / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    model = _model()
    step = -1

    def whole(_generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, dict[str, float]]:
        nonlocal step
        step += 1
        halves = [torch.randn(4, 4, generator=torch.Generator().manual_seed(2 * step + rank)) for rank in range(2)]
        return _error(model, torch.cat(halves)), {}

    train_module("line", module=model, loss=whole, settings=SETTINGS, folder=tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], value, atol=1e-5)


def _start(rank: int, bundle: Path, folder: Path, port: int) -> None:
    _join(rank, port)
    start_from(bundle, folder, TINY)
    # What a process finds as soon as it is past the barrier.
    names = sorted(path.name for path in (folder / "start" / "adapters").iterdir())
    (folder.parent / f"rank{rank}.txt").write_text(" ".join(names), "utf-8")
    PartialState().destroy_process_group()


def test_processes_that_go_on_from_a_bundle_do_not_meet(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    for part in (*(part for stage in STAGES.values() for part in stage.leaves), *CONTINUED):
        (bundle / part).mkdir(parents=True, exist_ok=True)
    (bundle / "vae" / "config.json").write_text(json.dumps({"sample_size": TINY.size}), "utf-8")
    names = [f"file{number:03}" for number in range(200)]
    for name in names:
        (bundle / "adapters" / name).touch()
    torch.multiprocessing.spawn(_start, args=(bundle, tmp_path / "work", _free_port()), nprocs=2)
    for rank in range(2):
        assert (tmp_path / f"rank{rank}.txt").read_text("utf-8").split() == names


def test_a_batch_that_cannot_be_parted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PartialState()._shared_state, "num_processes", 3)
    with pytest.raises(UserError, match="batch of 8"):
        share(8)
