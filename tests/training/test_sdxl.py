"""SDXL as the frozen base: adapters trained on it draw the same here and in plain diffusers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file

from ipa_app.models.adapters import usual_adapter
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.loading import load_model
from ipa_app.training.cli import main
from ipa_app.training.components import load_components
from ipa_app.training.data import open_example
from ipa_app.training.encoding import FrozenEncoder
from ipa_app.training.prepared import raw_batch
from tests.engine.test_sdxl import FILES, assert_close, draw_ours, draw_theirs, image_prompt, row, square
from tests.training.conftest import examples_in

NAMES = {"base": "ip-adapter.safetensors", "plus": "ip-adapter-plus.safetensors"}


@pytest.mark.parametrize(
    ("kind", "start", "more"),
    [
        ("base", "scratch", ["--mixed-precision", "bf16"]),
        ("base", "published", ["--gradient-accumulation-steps", "2"]),
        ("plus", "scratch", ["--cache-gb", "0"]),
        ("plus", "published", ["--mixed-precision", "bf16", "--gradient-checkpointing"]),
    ],
)
def test_what_is_trained_draws_what_it_draws_in_diffusers(
    kind: str,
    start: str,
    more: list[str],
    tiny_sdxl_dir: Path,
    pictures: Path,
    tmp_path: Path,
    fresh_accelerate: None,
) -> None:
    name = "fine" if kind == "plus" else "base"
    published = tiny_sdxl_dir / "adapters" / FILES[name]
    arguments = ["--base", str(tiny_sdxl_dir), "--data", str(pictures / "data.json"), "--output", str(tmp_path)]
    arguments += ["--adapter", kind, "--max-steps", "2", "--batch-size", "2", "--size", "64", "--heldout", "2"]
    arguments += ["--num-inference-steps", "1", "--resampler-heads", "1", "--learning-rate", "1e-2"]
    arguments += ["--pretrained", str(published)] if start == "published" else []
    assert main([*arguments, *more]) == 0
    assert (tmp_path / "samples-00000002.png").is_file()

    before, after = load_file(published), load_file(tmp_path / NAMES[kind])
    assert {key: tensor.shape for key, tensor in after.items()} == {key: tensor.shape for key, tensor in before.items()}
    assert not any(torch.equal(after[key], before[key]) for key in before)
    trained = usual_adapter(kind, tmp_path / NAMES[kind])
    entry = dataclasses.replace(
        entry_from_folder(tiny_sdxl_dir, name="toybox"), adapters={name: trained}, controlnets={}
    )
    model = load_model(entry, device="cpu", dtype=torch.float32, report=lambda *_: None)
    theirs = StableDiffusionXLPipeline.from_pretrained(tiny_sdxl_dir, local_files_only=True, dtype=torch.float32)
    theirs.set_progress_bar_config(disable=True)
    theirs.load_ip_adapter(str(tmp_path), subfolder="", weight_name=NAMES[kind], image_encoder_folder=None)
    theirs.set_ip_adapter_scale(0.6)
    drawn = draw_ours(model, [row(5, image_prompts=(image_prompt(model, name, 0.6),))])
    assert_close(drawn, draw_theirs(theirs, 5, ip_adapter_image=square()))
    assert (drawn - draw_ours(model, [row(5)])).abs().max() > 1e-2


def test_texts_and_sizes_are_what_the_pipeline_tells_the_unet(tiny_sdxl_dir: Path, pictures: Path) -> None:
    base = load_components(tiny_sdxl_dir)
    encoder = FrozenEncoder(base, kind="base")
    with torch.no_grad():
        expected, _, pooled, _ = base.pipeline().encode_prompt(["a red hat", ""], do_classifier_free_guidance=False)
    found = encoder.text_states(encoder.input_ids(["a red hat", ""]))
    assert torch.equal(found.states, expected)
    assert torch.equal(found.pooled, pooled)
    assert torch.allclose(encoder.empty_text.pooled, pooled[1:], atol=1e-6)

    opened = open_example(examples_in(pictures, heldout=0).train[0], 64)
    assert opened.time_ids == (48, 40, 6, 0, 64, 64)  # 40 wide and 48 high; 4 of 40 pixels are cropped off at the top
    batch = raw_batch([opened], encoder)
    assert encoder.encode(batch).time_ids.tolist() == [[48, 40, 6, 0, 64, 64]]
    told = encoder.added(encoder.encode(dataclasses.replace(batch, time_ids=None)))
    assert told is not None
    assert told["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]]
