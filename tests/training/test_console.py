"""Console output: a progress bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ipa_app.training.checkpoint import Checkpoint, Origin, save_checkpoint
from ipa_app.training.config import TrainConfig
from ipa_app.training.console import Console
from ipa_app.training.reports import (
    CheckpointReport,
    FinishedReport,
    HeldoutReport,
    Report,
    ResumedReport,
    StepReport,
    StoppedReport,
)

MakeConfig = Callable[..., TrainConfig]


def step(number: int, *, left: float = 300.0) -> StepReport:
    return StepReport(
        step=number, max_steps=100, seconds_left=left, loss=0.25, learning_rate=1e-4, examples_per_second=8.0
    )


def heldout(with_image: float) -> HeldoutReport:
    return HeldoutReport(step=100, with_image=with_image, without_image=0.2, image_only=0.5)


def told(config: TrainConfig, *reports: Report, is_terminal: bool) -> None:
    console = Console(config, total=12, is_terminal=is_terminal)
    with console.open():
        console.encoding(4, 0)
        console.encoding(10, 2)
        console.begin(20)
        for report in reports:
            console.tell(report)


def test_where_there_is_no_terminal_every_line_says_how_far_it_is(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = CheckpointReport(step=40, path=Path("out/checkpoint-00000040"))
    told(make_config(max_steps=100), ResumedReport(step=20, max_steps=100), step(40), saved, is_terminal=False)
    assert capsys.readouterr().out.splitlines() == [
        "encoded 4 of 12 pictures",
        "encoded 10 of 12 pictures, 2 left out",
        "continuing from step 20 of 100",
        "step 40 of 100: loss 0.2500, 8.0 examples/s, 5 minutes left",
        "step 40: checkpoint in out/checkpoint-00000040",
    ]


def test_a_terminal_has_a_bar_with_total_rate_time_left_and_loss(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = CheckpointReport(step=40, path=Path("out/checkpoint-00000040"))
    told(make_config(max_steps=100), step(40), saved, heldout(0.3), step(60), is_terminal=True)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(heldout(0.3))]
    last = printed.err.splitlines()[-1].split("\r")[-1]
    assert last.startswith("training:  60%")
    for words in ("60 of 100", "left", "steps/s", "loss 0.2500"):
        assert words in last
    assert "10 of 12" in printed.err
    assert "2 left out" in printed.err


def test_a_run_that_was_given_minutes_says_when_they_end(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    told(make_config(max_steps=100, max_minutes=7), step(40), is_terminal=True)
    assert "[5 minutes left, " in capsys.readouterr().err


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_end_says_where_everything_is_and_whether_it_is_any_good(
    is_terminal: bool, make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = FinishedReport(step=100, path=tmp_path / "out" / "ip-adapter.safetensors", difference=0.0)
    told(make_config(), heldout(0.3), finished, is_terminal=is_terminal)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"all results are in {tmp_path / 'out'}"
    assert lines[-2].startswith("warning: the picture still makes things worse: the held-out loss is 0.3000 with it")
    told(make_config(), heldout(0.1), finished, is_terminal=is_terminal)
    assert "warning" not in capsys.readouterr().out


def test_a_finished_schedule_is_trained_on_from_its_checkpoint(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(lr_schedule="cosine")
    state = Checkpoint(step=100, seconds=1.0, adapter={"weight": torch.zeros(1)}, optimization={})
    path = save_checkpoint(state, config, Origin()) / "adapter.safetensors"
    told(config, heldout(0.3), FinishedReport(step=100, path=path, difference=0.0), is_terminal=False)
    assert f"To train further, use another --output with --pretrained {path}; or" in capsys.readouterr().out


def test_a_run_that_was_ended_says_what_is_saved(make_config: MakeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    told(make_config(), StoppedReport(step=40, path=Path("out/checkpoint-00000040")), is_terminal=False)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "stopped after 40 steps: everything is saved in out/checkpoint-00000040; the same command continues from there"
    )


def test_nobody_listening_any_more_ends_nothing(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

        flush = write

    monkeypatch.setattr("sys.stdout", Gone())
    told(make_config(), step(40), is_terminal=False)
