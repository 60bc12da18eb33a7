"""Several processes are one run.

They are started as `accelerate launch --multi_gpu` starts them, which itself works with GPUs alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def launch(settings: list[str]) -> str:
    root = Path(__file__).parents[2]
    command = [sys.executable, *LAUNCH, "-m", "tests.training.sittings", *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_twice_the_batch(
    tiny_bundle_dir: Path, pictures: Path, tmp_path: Path
) -> None:
    """Stopped and resumed on the way: only the main process writes, and it tells everything once."""
    told = launch(arguments(tiny_bundle_dir, pictures, tmp_path / "two", "--batch-size", "2"))
    assert told.count("step 4: loss") == 1
    assert told.count("done after 4 steps") == 1
    lines = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["report"] == "StepReport"] == [1, 2, 3, 4]

    one = arguments(tiny_bundle_dir, pictures, tmp_path / "one", "--max-steps", "4")
    assert main([*one, "--batch-size", "4"]) == 0
    expected, found = (load_file(tmp_path / name / "ip-adapter.safetensors") for name in ("one", "two"))
    # Sums in another order, which Adam makes larger: it divides by the gradient's own size.
    far = max((found[name] - tensor).abs().max().item() for name, tensor in expected.items())
    assert far < 0.02 * 4 * LEARNING_RATE
