"""Whole runs on encoded batches: resuming, checkpoints, the finished file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ipa_app.adapter.files import read_adapter, save_adapter
from ipa_app.errors import UserError
from ipa_app.training.adapters import new_adapter
from ipa_app.training.checkpoint import resume_step
from ipa_app.training.components import Components, load_components
from ipa_app.training.config import TrainConfig
from ipa_app.training.encoding import FrozenEncoder
from ipa_app.training.examples import TrainingBatch
from ipa_app.training.loop import make_accelerator
from ipa_app.training.reports import (
    CheckpointReport,
    FinishedReport,
    HeldoutReport,
    ResumedReport,
    SampleReport,
    StepReport,
    StoppedReport,
)
from ipa_app.training.run import TrainingRun, prepare_base, train
from ipa_app.training.sampling import Sample, Sampler
from ipa_app.training.saving import UnusableAdapterError, publish
from tests.training.conftest import encoded_batch

Batches = Callable[..., Iterator[TrainingBatch]]
MakeConfig = Callable[..., TrainConfig]


@pytest.mark.parametrize(("kind", "accumulate"), [("base", 1), ("plus", 2)])
def test_a_run_stopped_and_resumed_ends_as_one_that_was_not(
    kind: str, accumulate: int, base: Components, make_config: MakeConfig, batches: Batches, tmp_path: Path
) -> None:
    changes = {"adapter": kind, "gradient_accumulation_steps": accumulate, "save_precision": "fp32", "save_steps": 2}
    whole = make_config(output=tmp_path / "whole", max_steps=5, **changes)
    *_, finished = train(whole, base=base, batches=batches(kind=kind))

    parts = make_config(output=tmp_path / "parts", max_steps=5, **changes)
    for report in train(parts, base=base, batches=batches(kind=kind)):
        if isinstance(report, StepReport) and report.step == 3:
            break  # killed one step after a checkpoint
    assert resume_step(parts.output) == 2
    rest = batches(kind=kind, start=2 * accumulate)
    *_, again = train(parts, base=base, batches=rest)

    expected, found = load_file(finished.path), load_file(again.path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_run_reports_saves_and_publishes(
    base: Components, make_config: MakeConfig, batches: Batches, frozen_weights: None
) -> None:
    config = make_config(max_steps=4, save_steps=2, eval_steps=2, sample_steps=4, keep_checkpoints=1)
    sample = Sample(reference=Image.new("RGB", (50, 30), "red"), text="a red hat")
    reports = list(train(config, base=base, batches=batches(), heldout=[encoded_batch(99)], samples=[sample]))
    steps = {kind: [r.step for r in reports if isinstance(r, kind)] for kind in (StepReport, HeldoutReport)}
    assert steps == {StepReport: [1, 2, 3, 4], HeldoutReport: [0, 2, 4]}
    assert [r.step for r in reports if isinstance(r, CheckpointReport)] == [2, 4]
    assert [path.name for path in config.output.glob("checkpoint-*")] == ["checkpoint-00000004"]
    sheet = Image.open(next(r.path for r in reports if isinstance(r, SampleReport)))
    assert sheet.width > 4 * 64
    finished = reports[-1]
    assert isinstance(finished, FinishedReport)
    assert read_adapter(finished.path).kind == "base"
    lines = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [report.step for report in reports]
    assert all(str(report) for report in reports)


def test_a_base_model_in_bf16_trains_an_adapter_in_float32(
    tiny_bundle_dir: Path, make_config: MakeConfig, batches: Batches, fresh_accelerate: None
) -> None:
    own = load_components(tiny_bundle_dir)  # not the shared one: its weights are rounded
    config = make_config(mixed_precision="bf16", save_precision="fp32", max_steps=2, save_steps=1)
    *_, finished = train(config, base=own, batches=batches(), heldout=[encoded_batch(99)])
    assert own.unet.dtype == torch.bfloat16
    tensors = load_file(finished.path)
    assert not torch.equal(tensors["image_proj.proj.weight"].bfloat16().float(), tensors["image_proj.proj.weight"])


def test_other_settings_do_not_continue_a_run(base: Components, make_config: MakeConfig, batches: Batches) -> None:
    list(train(make_config(max_steps=1), base=base, batches=batches()))
    with pytest.raises(UserError, match="learning_rate"):
        train(make_config(max_steps=1, learning_rate=1e-3), base=base, batches=batches())


def test_a_file_to_begin_from_is_known_by_what_it_holds(
    base: Components, make_config: MakeConfig, batches: Batches, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    config = make_config(max_steps=1, pretrained=start)
    for seed in (1, 2):
        save_adapter(new_adapter(make_config(seed=seed), base), start)
        if seed == 1:
            list(train(config, base=base, batches=batches()))
    with pytest.raises(UserError, match="began from another file of the same name"):
        train(config, base=base, batches=batches())


def test_a_finished_run_can_be_lengthened_and_a_half_written_checkpoint_does_no_harm(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    list(train(make_config(max_steps=1), base=base, batches=batches()))
    (make_config().output / "unfinished-checkpoint-00000009").mkdir()
    reports = list(train(make_config(max_steps=2), base=base, batches=batches(start=1)))
    assert [report.step for report in reports if isinstance(report, StepReport)] == [2]
    assert not list(make_config().output.glob("unfinished*"))


def test_a_run_that_is_to_stop_saves_and_ends_with_what_goes_on_from_there(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    asked = iter([False, False, True])
    run = TrainingRun(make_config(), base=base, accelerator=make_accelerator(make_config()), stop=lambda: next(asked))
    reports = list(run.reports(batches(), heldout=[], samples=[]))
    folder = make_config().output / "checkpoint-00000003"
    assert reports[-2:] == [CheckpointReport(step=3, path=folder), StoppedReport(step=3, path=folder)]
    *_, finished = train(make_config(), base=base, batches=batches(start=3))
    assert isinstance(finished, FinishedReport)


@pytest.mark.parametrize("what", ["measure", "draw", "publish"])
def test_a_stop_is_heard_while_measuring_and_drawing(
    what: str, base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    config = make_config(max_steps=2 if what == "publish" else 9, eval_steps=2 if what == "measure" else 0)
    config = replace(config, sample_steps=2 if what == "draw" else 0)
    told: list[object] = []
    run = TrainingRun(
        config,
        base=base,
        accelerator=make_accelerator(config),
        stop=lambda: any(isinstance(report, StepReport) and report.step == 2 for report in told),
    )
    sample = Sample(reference=Image.new("RGB", (50, 30), "red"), text="a red hat")
    reports = run.reports(batches(), heldout=[encoded_batch(99)], samples=[sample] if what == "draw" else [])
    for report in reports:
        told.append(report)
    last = 2 if what == "publish" else 3  # every process finishes the step that it has started
    assert told[-1] == StoppedReport(step=last, path=config.output / f"checkpoint-{last:08d}")
    shown = [report for report in told if isinstance(report, HeldoutReport | SampleReport) and report.step]
    assert shown == []


def test_reports_come_often_where_steps_are_slow(
    base: Components, make_config: MakeConfig, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipa_app.training.pace.REPORT_SECONDS", 0.0)
    reports = list(train(make_config(log_steps=1000), base=base, batches=batches()))
    assert [report.step for report in reports if isinstance(report, StepReport)] == [1, 2, 3, 4]


def test_a_resumed_run_says_where_it_goes_on_and_how_long_it_has_left(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    list(train(make_config(max_steps=1), base=base, batches=batches()))
    reports = list(train(make_config(max_steps=3), base=base, batches=batches(start=1)))
    assert reports[0] == ResumedReport(step=1, max_steps=3)
    assert str(reports[0]) == "continuing from step 1 of 3"
    steps = [report for report in reports if isinstance(report, StepReport)]
    assert [report.seconds_left > 0 for report in steps] == [True, False]
    assert str(steps[0]).startswith("step 2 of 3: loss ")


def test_a_run_goes_on_with_the_size_its_adapter_has(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    """Whatever size a new adapter would have by then."""
    config = make_config(adapter="plus", resampler_heads=0, max_steps=1)
    other = replace(base, fine_adapter=None)
    list(train(config, base=other, batches=batches(kind="plus")))
    *_, finished = train(replace(config, max_steps=2), base=base, batches=batches(kind="plus", start=1))
    assert load_file(finished.path)["image_proj.latents"].shape[-1] == 64


def test_minutes_end_a_run_that_still_publishes(base: Components, make_config: MakeConfig, batches: Batches) -> None:
    config = make_config(max_steps=10**6, max_minutes=1e-6)
    *_, finished = train(config, base=base, batches=batches())
    assert isinstance(finished, FinishedReport)
    assert finished.step == 1


def test_numbers_gone_wrong_end_the_run_and_spare_the_checkpoint(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    def ruined() -> Iterator[TrainingBatch]:
        for batch, factor in zip(batches(), (1, 1, float("nan"), 1), strict=False):
            yield TrainingBatch(latents=batch.latents * factor, text_states=batch.text_states, features=batch.features)

    config = make_config(save_steps=1, log_steps=2)
    with pytest.raises(UserError, match="no longer a number at step 3") as caught:
        list(train(config, base=base, batches=ruined()))
    assert resume_step(config.output) == 2
    start = Path(str(caught.value).split("--pretrained ")[1].split(" ")[0])
    again = make_config(output=config.output / "again", pretrained=start, learning_rate=1e-5, max_steps=1)
    *_, finished = train(again, base=base, batches=batches())
    assert isinstance(finished, FinishedReport)


def test_numbers_gone_wrong_before_anything_is_saved_name_no_file(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    ruined = (replace(batch, latents=torch.full((2, 4, 8, 8), float("nan"))) for batch in batches())
    with pytest.raises(UserError, match="at step 1: run it again with a lower --learning-rate"):
        list(train(make_config(), base=base, batches=ruined))


def test_steps_that_take_examples_of_another_number_are_those_of_another_run(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    list(train(make_config(max_steps=1), base=base, batches=batches()))
    accelerator = make_accelerator(make_config())
    accelerator.state.num_processes = 2
    try:
        with pytest.raises(UserError, match="a run with 2 examples per step, not 4"):
            TrainingRun(make_config(), base=base, accelerator=accelerator)
    finally:
        accelerator.state.num_processes = 1


def with_ruined_gradients(config: TrainConfig, base: Components, steps: range) -> TrainingRun:
    """Return a run with finite losses but non-finite gradients in some steps."""
    run = TrainingRun(config, base=base, accelerator=make_accelerator(config))
    weight = next(run.trainer.adapter.parameters())
    weight.register_hook(lambda gradient: gradient * (float("nan") if run.trainer.step in steps else 1))
    return run


def test_a_step_whose_gradients_are_no_numbers_changes_nothing(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    config = make_config(save_steps=1, keep_checkpoints=3, max_steps=3)
    list(with_ruined_gradients(config, base, range(1, 2)).reports(batches(), heldout=[], samples=[]))
    first, second, third = (load_file(path / "adapter.safetensors") for path in sorted(config.output.glob("check*")))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(second[name], third[name]) for name in first)
    assert all(tensor.isfinite().all() for tensor in third.values())


def test_gradients_that_stay_no_numbers_end_the_run(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    run = with_ruined_gradients(make_config(max_steps=100), base, range(100))
    with pytest.raises(UserError, match="no longer a number at step 19"):
        list(run.reports(batches(), heldout=[], samples=[]))


def test_weights_that_are_no_numbers_are_never_saved(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    def ruin() -> bool:
        next(run.trainer.adapter.parameters()).data.fill_(float("inf"))
        return True

    run = TrainingRun(make_config(), base=base, accelerator=make_accelerator(make_config()), stop=ruin)
    with pytest.raises(UserError, match="no longer a number at step 1"):
        list(run.reports(batches(), heldout=[], samples=[]))
    assert resume_step(make_config().output) == 0


def test_weights_too_large_for_the_finished_file_are_said_in_a_sentence(
    base: Components, make_config: MakeConfig, batches: Batches
) -> None:
    def grow() -> bool:
        layer: Any = run.trainer.adapter.ip_adapter["1"]
        layer.to_k_ip.weight.data.fill_(1e6)
        return False

    run = TrainingRun(make_config(max_steps=1), base=base, accelerator=make_accelerator(make_config()), stop=grow)
    with pytest.raises(UserError, match=r"not finite in ip_adapter.1.to_k_ip.weight. Please run it again in another"):
        list(run.reports(batches(), heldout=[], samples=[]))


@pytest.mark.parametrize("weight", [float("nan"), 1e30])  # the second is too large for the file's fp16
def test_an_adapter_that_cannot_draw_is_not_called_done(
    weight: float, base: Components, make_config: MakeConfig
) -> None:
    config = make_config()
    prepare_base(base, config, make_accelerator(config))
    adapter = new_adapter(config, base)
    layer: Any = adapter.ip_adapter["1"]
    layer.to_k_ip.weight.data.fill_(weight)
    sampler = Sampler(base, encoder=FrozenEncoder(base, kind="base"), config=config)
    features = sampler.features(Image.new("RGB", (40, 40), "blue"))
    with pytest.raises(UnusableAdapterError, match="not finite in ip_adapter.1.to_k_ip.weight"):
        publish(adapter, config=config, unet=base.unet, sampler=sampler, features=features, step=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"adapter": "full"}, "adapter"),
        ({"num_tokens": 8}, "num_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"drop_text": 0.6, "drop_both": 0.6}, "drop_text"),
        ({"adapter": "plus", "num_tokens": 1025}, "num_tokens is 1025; it must be a whole number from 0 to 1024"),
        ({"resampler_heads": 10**9}, "resampler_heads is 1000000000; it must be a whole number from 0 to 64"),
        ({"resampler_depth": 65}, "resampler_depth is 65; it must be a whole number from 1 to 64"),
        ({"resampler_dim": 10**9}, "resampler_dim is 1000000000; it must be a whole number from 0 to 4096"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], words: str, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=words):
        make_config(**changes)
