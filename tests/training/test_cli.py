"""The command line: refusals before the work starts, endings that lose nothing, and messages."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ipa_app.training.cli import main
from tests.tiny_models import random_adapter_tensors, tiny_unet

FAST = ["--max-steps", "2", "--batch-size", "2", "--num-inference-steps", "1", "--log-steps", "1", "--size", "64"]
QUIET = ["--sample-steps", "0", "--eval-steps", "0", "--save-precision", "fp32"]
ENDLESS = ["--max-steps", "1000000", *QUIET]


def arguments(base: Path, pictures: Path, output: Path, *more: str) -> list[str]:
    folders = ["--base", str(base), "--data", str(pictures / "data.json"), "--output", str(output)]
    return [*folders, *FAST, *more]


@pytest.fixture
def train(tiny_bundle_dir: Path, pictures: Path, tmp_path: Path) -> Callable[..., int]:
    """Return a function that trains on `pictures` into `tmp_path/out`."""

    def run(*more: str) -> int:
        return main(arguments(tiny_bundle_dir, pictures, tmp_path / "out", *more))

    return run


def no_pictures_encoded(output: Path) -> bool:
    return not list(output.glob("encoded-*"))


class SignalWhen:
    """Send a signal to this process from a thread, as soon as a condition holds."""

    def __init__(self, number: int, condition: Callable[[], bool]) -> None:
        self._number = number
        self._condition = condition
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.is_set():
            if self._condition():
                os.kill(os.getpid(), self._number)
                return
            time.sleep(0.005)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def steps_logged(output: Path, count: int) -> Callable[[], bool]:
    log = output / "log.jsonl"
    return lambda: log.is_file() and log.read_text().count("StepReport") >= count


@pytest.mark.parametrize("cache", ["8", "0"])
def test_the_command_line_trains_past_bad_pictures_and_names_each_once(
    cache: str, train: Callable[..., int], pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "3.png").write_bytes(b"not a picture")
    (pictures / "7.png").unlink()
    output = tmp_path / "out"
    caplog.set_level(logging.INFO)
    assert train("--max-steps", "8", "--cache-gb", cache) == 0
    assert (output / "ip-adapter.safetensors").is_file()
    assert (output / "samples-00000008.png").is_file()
    for name in ("3.png", "7.png"):
        assert sum(message.startswith(f"skipped {name}: ") for message in caplog.messages) == 1
    reports = [json.loads(line)["report"] for line in (output / "log.jsonl").read_text().splitlines()]
    assert reports[0] == "HeldoutReport"
    assert reports[-1] == "FinishedReport"
    if cache == "8":
        assert any(message.startswith("Left out: 2 of 12 pictures (") for message in caplog.messages)


def test_what_is_encoded_is_counted_without_what_is_left_out(
    train: Callable[..., int], pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "3.png").write_bytes(b"not a picture")
    assert train(*QUIET) == 0
    assert "encoded 11 of 12 pictures, 1 left out\n" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_by_a_signal_goes_on_where_it_was(
    number: int, train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    with SignalWhen(number, steps_logged(output, 3)):
        assert train(*ENDLESS) == 128 + number
    (folder,) = output.glob("checkpoint-*")
    step = int(folder.name.removeprefix("checkpoint-"))
    assert step >= 3
    assert f"stopped after {step} steps: everything is saved in {folder}" in capsys.readouterr().out
    total = str(step + 2)
    assert train(*QUIET, "--max-steps", total) == 0
    assert f"continuing from step {step} of {total}\n" in capsys.readouterr().out
    parts = load_file(output / "ip-adapter.safetensors")
    shutil.rmtree(output)
    assert train(*QUIET, "--max-steps", total) == 0
    whole = load_file(output / "ip-adapter.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_that_is_ended_while_it_encodes_keeps_what_is_encoded(
    train: Callable[..., int], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = []
    for number in range(400):
        Image.new("RGB", (64, 64), (number % 256, number // 256, 0)).save(pictures / f"many{number}.png")
        entries.append({"image_file": f"many{number}.png", "text": "a hat"})
    (pictures / "data.json").write_text(json.dumps(entries))
    said = []
    capsys.readouterr()

    def some_are_encoded() -> bool:
        said.append(capsys.readouterr().out)
        return "encoded 4 of 400" in "".join(said)

    with SignalWhen(signal.SIGINT, some_are_encoded):
        assert train() == 130
    (file,) = (tmp_path / "out").glob("encoded-*/pictures/*.safetensors")
    kept = len(load_file(file)["latents"])
    assert 4 <= kept < 400
    assert "stopped while encoding" in "".join(said) + capsys.readouterr().out
    assert train(*QUIET) == 0
    assert f"encoded {kept + 4} of 400 pictures\n" in capsys.readouterr().out
    assert file.is_file()


def test_an_end_comes_soon_while_samples_are_drawn(train: Callable[..., int], tmp_path: Path) -> None:
    output = tmp_path / "out"
    slow = ["--max-steps", "3", "--sample-steps", "1", "--num-inference-steps", "900", "--eval-steps", "0"]
    with SignalWhen(signal.SIGINT, steps_logged(output, 1)):
        assert train(*slow) == 130
    assert list(output.glob("checkpoint-*"))
    assert not list(output.glob("samples-*"))
    assert not (output / "ip-adapter.safetensors").exists()


def test_a_run_that_was_killed_before_it_saved_anything_says_that_it_begins_anew(
    train: Callable[..., int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert train(*QUIET) == 0
    shutil.rmtree(tmp_path / "out" / "checkpoint-00000002")
    assert "starting again from step 0: the earlier run here saved nothing" not in caplog.messages
    assert train(*QUIET) == 0
    assert "starting again from step 0: the earlier run here saved nothing" in caplog.messages


def test_ctrl_c_before_anything_is_begun_is_one_line(
    train: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ipa_app.training.cli.load_components", interrupted)
    assert train() == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped before anything was started"


def refused(code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one sentence that refused a run."""
    assert code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0].removeprefix("error: ")


def test_what_a_person_can_put_right_is_one_line_and_exit_code_2(
    train: Callable[..., int], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "model_index.json" in refused(main(arguments(tmp_path, pictures, tmp_path / "out")), capsys)
    assert "batch_size" in refused(train("--batch-size", "0"), capsys)


def test_an_output_that_cannot_be_written_is_refused_first(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert "Nothing can be written to" in refused(train("--base", str(tmp_path / "none")), capsys)


def test_a_pretrained_file_of_another_kind_or_base_is_refused_before_encoding(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, unet in (("plus", tiny_unet()), ("base", tiny_unet(cross_attention_dim=64))):
        tensors = random_adapter_tensors(unet, kind=name)
        save_file(tensors, tmp_path / f"{name}.safetensors")
    for name, words in (("plus", "train it with --adapter plus"), ("base", "was made for"), ("none", "There is no")):
        assert words in refused(train("--pretrained", str(tmp_path / f"{name}.safetensors")), capsys)
    assert no_pictures_encoded(tmp_path / "out")


def test_another_adapter_base_or_data_in_an_old_folder_is_refused_before_encoding(
    train: Callable[..., int],
    other_bundle_dir: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(*QUIET) == 0
    for folder in (tmp_path / "out").glob("encoded-*"):
        shutil.rmtree(folder)
    assert "a run with adapter base, not plus" in refused(train("--adapter", "plus"), capsys)
    assert "a run on another base model" in refused(train("--base", str(other_bundle_dir)), capsys)
    assert "a run with size 64, not 32" in refused(train("--size", "32"), capsys)
    entries = json.loads((pictures / "data.json").read_text())
    (pictures / "data.json").write_text(json.dumps(entries[1:]))
    sentence = refused(train(), capsys)
    assert "on other data (12 pictures then, 11 now)" in sentence
    assert no_pictures_encoded(tmp_path / "out")
    start = sentence.split("--pretrained ")[1].rstrip(".")
    assert train(*QUIET, "--output", str(tmp_path / "next"), "--pretrained", start) == 0


def test_too_little_room_is_refused_before_encoding(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "but only 1 MB is free there" in refused(train(), capsys)
    assert no_pictures_encoded(tmp_path / "out")


def test_a_disk_that_fills_up_is_said_in_one_line_and_costs_nothing_that_was_saved(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    resource = pytest.importorskip("resource", reason="limits on files are Unix's")
    assert train(*QUIET, "--max-steps", "2") == 0
    capsys.readouterr()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # larger files cannot be written, as on a full disk
    try:
        code = train(*QUIET, "--max-steps", "6", "--save-steps", "2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sentence = refused(code, capsys)
    assert "ip-adapter.safetensors cannot be written" in sentence
    assert sentence.endswith("fix this and run the same command again, which continues from step 2.")
    told = [message for message in caplog.messages if message.startswith("No checkpoint could be written to")]
    assert [message.split("at step ")[1].split(" ")[0] for message in told] == ["4", "6"]
    assert all("the latest is from step 2. The run continues and tries again later." in message for message in told)
    assert [path.name for path in (tmp_path / "out").glob("*checkpoint*")] == ["checkpoint-00000002"]
    assert not list((tmp_path / "out").glob("*.part"))
    assert train(*QUIET, "--max-steps", "6") == 0


def test_what_a_person_wants_to_know_first_is_said_once(
    train: Callable[..., int], pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = json.loads((pictures / "data.json").read_text())[:4]
    entries[0] |= {"text": "a red hat " * 20, "width": 3}
    (pictures / "data.json").write_text(json.dumps(entries))
    caplog.set_level(logging.INFO)
    with SignalWhen(signal.SIGINT, steps_logged(tmp_path / "out", 1)):
        assert train("--max-steps", "100000") == 130
    messages = [message for message in caplog.messages if not message.startswith("reading the base model")]
    assert messages[:3] == [
        "training on 4 pictures, measuring on 0 held out",
        "training a base adapter of 0.0 million weights",
        "100000 steps of 2 examples: every picture is seen about 50000 times",
    ]
    assert messages[3].startswith(f"writing to {tmp_path / 'out'} (about ")
    assert messages[4:] == [
        'warning: The data also has "width", which training does not use.',
        "warning: Texts that are too long for the text encoder, so their ends are not read: 1; the first is "
        "that of 0.png.",
        "warning: Every picture is seen about 50000 times: so few are learned by heart, and the adapter may not "
        "work with others at all. More pictures or a smaller --max-steps will help.",
        "warning: Nothing is held out, so nothing measures whether the picture helps. Give 10 pictures or more, or "
        "name some with --heldout-data.",
    ]


def test_a_fine_grained_adapter_says_how_large_it_is(
    train: Callable[..., int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert train(*QUIET, "--adapter", "plus", "--max-steps", "1") == 0
    (line,) = (message for message in caplog.messages if message.startswith("training a plus adapter"))
    assert line == "training a plus adapter of 0.1 million weights, its Resampler 32 wide with 1 heads"
    assert not any("Resampler alone" in message for message in caplog.messages)
    assert train(*QUIET, "--adapter", "plus", "--resampler-depth", "2", "--output", str(tmp_path / "other")) == 0
    warning = "warning: Other programs only read fine-grained adapters whose Resampler has 4 layers."
    assert warning in caplog.messages
    caplog.clear()
    shallow = str(tmp_path / "other" / "ip-adapter-plus.safetensors")
    assert train(*QUIET, "--adapter", "plus", "--pretrained", shallow, "--output", str(tmp_path / "next")) == 0
    assert warning in caplog.messages


def test_a_finished_run_says_so_and_measures_nothing_again(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 0
    assert capsys.readouterr().out.count("held-out loss") == 2  # before the first step and after the last
    assert train() == 0
    printed = capsys.readouterr().out
    assert "all 2 steps are already done; to train further, use a larger --max-steps\n" in printed
    assert "held-out loss" not in printed
    assert "done after 2 steps" in printed
    assert train("--max-steps", "1") == 0
    out = capsys.readouterr().out
    assert "2 steps are already done, more than the 1 asked for; to train further, use a larger --max-steps\n" in out


def test_a_finished_schedule_says_how_to_train_on_and_that_works(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cosine = [*QUIET, "--lr-schedule", "cosine"]
    assert train(*cosine) == 0
    assert "holds a run with max_steps 2, not 4" in refused(train(*cosine, "--max-steps", "4"), capsys)
    assert train(*cosine) == 0
    start = tmp_path / "out" / "checkpoint-00000002" / "adapter.safetensors"
    out = capsys.readouterr().out
    assert f"all 2 steps are already done; to train further, use another --output with --pretrained {start}\n" in out
    assert train(*cosine, "--output", str(tmp_path / "next"), "--pretrained", str(start)) == 0


def test_a_run_goes_on_in_smaller_batches(train: Callable[..., int], tmp_path: Path) -> None:
    """As after the GPU ran out of memory."""
    for steps in ("2", "4"):
        smaller = ["--batch-size", "1", "--gradient-accumulation-steps", "2"] if steps == "4" else []
        assert train(*QUIET, "--max-steps", steps, *smaller) == 0
    assert train(*QUIET, "--max-steps", "4", "--output", str(tmp_path / "whole")) == 0
    parts, whole = (load_file(tmp_path / name / "ip-adapter.safetensors") for name in ("out", "whole"))
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)


@pytest.mark.parametrize("heldout", ["0", "16"])
def test_what_would_have_pictures_held_out_is_said_truly(
    heldout: str, train: Callable[..., int], pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = json.loads((pictures / "data.json").read_text())
    (pictures / "data.json").write_text(json.dumps([entry | {"reference_file": "0.png"} for entry in entries]))
    assert train("--dry-run", "--heldout", heldout) == 0
    remedy = "Give a larger --heldout." if heldout == "0" else "Name some with --heldout-data."
    assert f"nothing measures whether the picture helps. {remedy}\n" in capsys.readouterr().out


def test_a_run_whose_held_out_pictures_are_all_bad_goes_on_without_them(
    train: Callable[..., int], pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "bad.png").write_bytes(b"not a picture")
    (pictures / "heldout.json").write_text('[{"image_file": "bad.png", "text": "a hat"}]')
    assert train("--heldout-data", str(pictures / "heldout.json"), "--sample-steps", "0") == 0
    assert "HeldoutReport" not in (tmp_path / "out" / "log.jsonl").read_text()
    assert "None of the held-out pictures can be opened, so nothing is measured." in caplog.messages


def test_a_dry_run_prints_the_cost_and_writes_nothing(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--dry-run") == 0
    printed = capsys.readouterr().out
    assert "one step:" in printed
    assert "trained weights:" in printed
    assert "disk: about" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind")
def test_the_finished_file_may_be_read_by_whom_new_files_may(train: Callable[..., int], tmp_path: Path) -> None:
    assert train(*QUIET) == 0
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out" / "ip-adapter.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_data_may_be_a_folder_and_hold_the_output(tiny_bundle_dir: Path, pictures: Path) -> None:
    (pictures / "data.json").unlink()
    (pictures / "1.txt").write_text("a green hat")
    output = pictures / "out"
    given = ["--base", str(tiny_bundle_dir), "--data", str(pictures), "--output", str(output), *FAST]
    assert main([*given, "--eval-steps", "0"]) == 0
    assert (output / "ip-adapter.safetensors").is_file()
    assert list(output.glob("samples-*.png"))  # not mistaken for data when the run resumes
    assert main([*given, *QUIET, "--max-steps", "3"]) == 0
