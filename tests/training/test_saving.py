"""When checkpoints are written, and the messages if they cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from ipa_app.adapter.files import write_tensors
from ipa_app.errors import UserError
from ipa_app.training.checkpoint import Checkpoint, Origin
from ipa_app.training.config import TrainConfig
from ipa_app.training.saving import Saver

MakeConfig = Callable[..., TrainConfig]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("ipa_app.training.saving.time", made)
    return made


def checkpoint(step: int = 1) -> Checkpoint:
    return Checkpoint(step=step, seconds=1.0, adapter={"weight": torch.zeros(10**6)}, optimization={})


def test_two_minutes_or_so_many_steps_make_one_due(make_config: MakeConfig, clock: Clock) -> None:
    saver = Saver(make_config(save_steps=5), Origin())
    assert [saver.is_due(step) for step in (3, 4, 5, 6)] == [False, False, True, False]
    clock.now = 120.0
    assert saver.is_due(6)
    saver.save(checkpoint())
    assert not saver.is_due(6)
    assert not Saver(make_config(save_minutes=0), Origin()).is_due(6)


def test_where_writing_takes_long_it_is_done_less_often(
    make_config: MakeConfig, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object) -> None:
        clock.now += 30.0

    monkeypatch.setattr("ipa_app.training.saving.save_checkpoint", slow)
    saver = Saver(make_config(), Origin())
    saver.save(checkpoint())
    clock.now += 599.0
    assert not saver.is_due(2)
    clock.now += 1.0
    assert saver.is_due(2)


@pytest.mark.parametrize(
    ("error", "free", "why"),
    [
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 704"), 10**6, "the disk is full"),
        (
            SafetensorError("Error while serializing: I/O error: No space left"),
            10**6,
            "12 MB is needed, but only 1 MB is free",
        ),
        (OSError(122, "Disk quota exceeded"), 10**12, "Disk quota exceeded"),
    ],
)
def test_why_it_could_not_be_written_is_one_sentence(
    error: Exception, free: int, why: str, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    saver = Saver(config, Origin())
    saver.save(checkpoint(step=1))
    usage = shutil.disk_usage(config.output)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ipa_app.training.checkpoint.write_tensors", fails)
    with pytest.raises(UserError) as refused:
        saver.save(checkpoint(step=2))
    sentence = str(refused.value)
    assert sentence.startswith(f"No checkpoint could be written to {config.output} at step 2 (")
    assert why in sentence
    assert sentence.endswith("; the latest is from step 1.")


def test_where_there_is_no_room_older_ones_make_it(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(keep_checkpoints=3)
    saver = Saver(config, Origin())
    for step in (1, 2, 3):
        saver.save(checkpoint(step=step))
    write = write_tensors

    def only_beside_one(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if len(list(config.output.glob("checkpoint-*"))) > 1:
            raise OSError(28, "No space left on device")
        write(tensors, path)

    monkeypatch.setattr("ipa_app.training.checkpoint.write_tensors", only_beside_one)
    saver.save(checkpoint(step=4))
    assert [path.name[-1] for path in sorted(config.output.glob("checkpoint-*"))] == ["3", "4"]
