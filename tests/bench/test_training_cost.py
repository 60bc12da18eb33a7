"""The cost of training is counted without weights."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench import training_cost
from bench.published import PUBLISHED_PARAMETERS, SIZES


def test_the_published_parts_have_their_published_sizes() -> None:
    sd15 = training_cost.frozen_parameters("sd15")
    names = {"UNet": "unet", "VAE": "vae", "text encoder 1": "text_encoder", "image encoder (ViT-H)": "image_encoder"}
    assert sd15 == {ours: PUBLISHED_PARAMETERS[theirs] for ours, theirs in names.items()}
    sdxl = training_cost.frozen_parameters("sdxl")
    assert sdxl["UNet"] == 2_567_463_684
    assert sdxl["text encoder 2"] == 694_659_840


def test_memory_counts_while_its_tensors_live() -> None:
    with FakeTensorMode():
        given = torch.zeros(1000)
        with training_cost.LivingTensors([given]) as living:
            twice = given + 1
            view = twice[:10]
            del twice
            assert living.now == 8000
            del view
            given.add_(1)
    assert (living.now, living.most) == (4000, 8000)


@pytest.mark.slow
def test_a_narrow_model_takes_less_with_gradient_checkpointing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(training_cost.PUBLISHED, "sd15", SIZES["sd15", True])
    training_cost.main(["sd15", "--adapter", "plus", "--batch-size", "8"])
    *_, parts, without, saving = capsys.readouterr().out.splitlines()
    least, usual, less = (float(line.split()[-2]) for line in (parts, without, saving))
    assert least < less < usual
