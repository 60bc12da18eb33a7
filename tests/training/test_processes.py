"""Several processes act as one run.

They are started in the way of `accelerate launch --multi_gpu`, which itself works on GPUs only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ipa_app.training.cli import main

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LEARNING_RATE = 1e-3


def arguments(base: Path, pictures: Path, output: Path, *more: str) -> list[str]:
    settings = ["--base", str(base), "--data", str(pictures / "data.json"), "--output", str(output)]
    settings += ["--size", "64", "--heldout", "2", "--eval-steps", "2", "--sample-steps", "0", "--save-minutes", "0"]
    settings += ["--num-inference-steps", "1", "--save-precision", "fp32", "--log-steps", "1"]
    return [*settings, "--learning-rate", str(LEARNING_RATE), *more]


def start(settings: list[str], *, module: str = "ipa_app.training") -> subprocess.Popen[str]:
    command = [sys.executable, *LAUNCH, "-m", module, *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], env=environment, **pipes)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a process to succeed; return its standard output and errors."""
    told, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    return told + errors


def far_apart(one: Path, other: Path) -> float:
    """Return the largest difference between two finished adapters."""
    expected, found = (load_file(folder / "ip-adapter.safetensors") for folder in (one, other))
    return max((found[name] - tensor).abs().max().item() for name, tensor in expected.items())


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_twice_the_batch(
    tiny_bundle_dir: Path, pictures: Path, tmp_path: Path
) -> None:
    """Stopped and resumed in between; only the main process writes, and it reports everything once."""
    settings = arguments(tiny_bundle_dir, pictures, tmp_path / "two", "--batch-size", "2")
    told = finish(start(settings, module="tests.training.sittings"))
    assert told.count("step 4 of 4: loss") == 1
    assert told.count("done after 4 steps") == 1
    lines = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["report"] == "StepReport"] == [1, 2, 3, 4]

    one = arguments(tiny_bundle_dir, pictures, tmp_path / "one", "--max-steps", "4")
    assert main([*one, "--batch-size", "4"]) == 0
    # Sums in another order; Adam amplifies the difference, because it divides by the gradient's own size.
    assert far_apart(tmp_path / "one", tmp_path / "two") < 0.02 * 4 * LEARNING_RATE


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a signal cannot be sent to one process alone")
def test_two_processes_that_are_ended_save_together_and_go_on_as_one_run(
    tiny_bundle_dir: Path, pictures: Path, tmp_path: Path
) -> None:
    """They share the encoding, too, and each bad picture is reported once, by the process that opened it."""
    (pictures / "3.png").write_bytes(b"not a picture")
    output, log = tmp_path / "two", tmp_path / "two" / "log.jsonl"
    settings = arguments(tiny_bundle_dir, pictures, output, "--batch-size", "2", "--eval-steps", "0")
    process = start([*settings, "--max-steps", "1000000"])
    while process.poll() is None and not (log.is_file() and log.read_text().count("StepReport") >= 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # to the launcher, which passes it on
    told, errors = process.communicate()
    (folder,) = output.glob("checkpoint-*")
    step = int(folder.name.removeprefix("checkpoint-"))
    assert told.count(f"stopped after {step} steps: everything is saved in {folder}") == 1
    assert (told + errors).count("skipped 3.png: ") == 1
    # Two files, or more if a slow process saved what it had so far.
    encoded = [len(load_file(file)["latents"]) for file in output.glob("encoded-*/pictures/*")]
    assert len(encoded) >= 2
    assert sum(encoded) == 11

    total = str(step + 2)
    assert f"continuing from step {step} of {total}" in finish(start([*settings, "--max-steps", total]))
    one = arguments(tiny_bundle_dir, pictures, tmp_path / "one", "--batch-size", "4", "--eval-steps", "0")
    assert main([*one, "--max-steps", total]) == 0
    assert far_apart(tmp_path / "one", output) < 0.02 * (step + 2) * LEARNING_RATE
