"""Data files, bad pictures, the order of examples, and the command line over all of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ipa_app.errors import UserError
from ipa_app.training.cli import main
from ipa_app.training.components import Components
from ipa_app.training.config import DataConfig, TrainConfig
from ipa_app.training.data import ExampleReader, batch_indices, open_example, read_examples, split_heldout
from ipa_app.training.dataset import open_dataset
from ipa_app.training.examples import EncodedBatch
from ipa_app.training.loop import make_accelerator
from ipa_app.training.prepared import fingerprint
from ipa_app.training.run import prepare_base

FAST = ["--max-steps", "2", "--batch-size", "2", "--num-inference-steps", "1", "--log-steps", "1", "--size", "64"]


def arguments(base: Path, pictures: Path, output: Path, *more: str) -> list[str]:
    folders = ["--base", str(base), "--data", str(pictures / "data.json"), "--output", str(output)]
    return [*folders, *FAST, *more]


def spoil(pictures: Path) -> None:
    """One picture that is none, one that is missing."""
    (pictures / "3.png").write_bytes(b"not a picture")
    (pictures / "7.png").unlink()


@pytest.mark.parametrize("cache", ["8", "0"])
def test_the_command_line_trains_past_bad_pictures_and_names_them(
    cache: str, tiny_bundle_dir: Path, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(pictures)
    output = tmp_path / "out"
    with caplog.at_level(logging.INFO):
        code = main(arguments(tiny_bundle_dir, pictures, output, "--max-steps", "8", "--cache-gb", cache))
    assert code == 0
    assert (output / "ip-adapter.safetensors").is_file()
    assert (output / "samples-00000008.png").is_file()
    for name in ("3.png", "7.png"):
        assert sum(f"skipped {pictures / name}" in message for message in caplog.messages) <= 2
        assert any(name in message for message in caplog.messages)
    reports = [json.loads(line)["report"] for line in (output / "log.jsonl").read_text().splitlines()]
    assert reports[0] == "HeldoutReport"
    assert reports[-1] == "FinishedReport"


def test_run_again_the_command_line_goes_on_with_the_data_where_it_stopped(
    tiny_bundle_dir: Path, pictures: Path, tmp_path: Path
) -> None:
    for name, steps in (("whole", "5"), ("parts", "2"), ("parts", "5")):
        more = ["--max-steps", steps, "--sample-steps", "0", "--eval-steps", "0", "--save-precision", "fp32"]
        assert main(arguments(tiny_bundle_dir, pictures, tmp_path / name, *more)) == 0
    whole, parts = (load_file(tmp_path / name / "ip-adapter.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_whose_held_out_pictures_are_all_bad_goes_on_without_them(
    tiny_bundle_dir: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "heldout.json").write_text('[{"image_file": "none.png", "text": "a hat"}]')
    more = ["--heldout-data", str(pictures / "heldout.json"), "--sample-steps", "0"]
    assert main(arguments(tiny_bundle_dir, pictures, tmp_path / "out", *more)) == 0
    assert "HeldoutReport" not in (tmp_path / "out" / "log.jsonl").read_text()


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_examples_kept_encoded_are_those_opened_each_time(
    kind: str, base: Components, make_config: Callable[..., TrainConfig], tiny_bundle_dir: Path, pictures: Path
) -> None:
    config = make_config(adapter=kind, batch_size=5)
    accelerator = make_accelerator(config)
    prepare_base(base, config, accelerator)

    def encoded_batches(cache_gb: float) -> list[EncodedBatch]:
        data = DataConfig(base=tiny_bundle_dir, data=pictures / "data.json", cache_gb=cache_gb)
        dataset = open_dataset(config, data, base)
        assert len(dataset.train) == 11
        assert len(dataset.heldout) == 1
        return [dataset.encoder.encode(batch) for batch in islice(dataset.batches(accelerator), 3)]

    opened = encoded_batches(0)
    assert not config.output.exists()
    kept = encoded_batches(8)
    (file,) = config.output.glob("encoded-*.safetensors")
    written = file.stat().st_mtime_ns
    again = encoded_batches(8)
    assert file.stat().st_mtime_ns == written
    for one, other, third in zip(opened, kept, again, strict=True):
        for name in ("latents", "latents_std", "text_states", "features"):
            assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-5)
            assert torch.equal(getattr(other, name), getattr(third, name))


def test_a_changed_picture_is_encoded_anew(pictures: Path) -> None:
    examples = read_examples(pictures / "data.json", pictures)
    before = fingerprint(examples, "base")
    assert fingerprint(examples, "base") == before
    assert fingerprint(examples, "plus") != before
    Image.new("RGB", (9, 9), "white").save(pictures / "5.png")
    assert fingerprint(examples, "base") != before


def test_a_dry_run_prints_the_cost_and_writes_nothing(
    tiny_bundle_dir: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny_bundle_dir, pictures, tmp_path / "out", "--dry-run")) == 0
    printed = capsys.readouterr().out
    assert "one step:" in printed
    assert "trained weights:" in printed
    assert not (tmp_path / "out").exists()


def test_what_a_person_can_put_right_is_one_line_and_exit_code_2(
    tiny_bundle_dir: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, pictures, tmp_path / "out")) == 2
    assert "model_index.json" in capsys.readouterr().err
    assert main(arguments(tiny_bundle_dir, pictures, tmp_path / "out", "--batch-size", "0")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "batch_size" in error


def test_a_picture_is_resized_by_its_short_side_and_cropped_to_the_centre(pictures: Path) -> None:
    example = read_examples(pictures / "data.json", pictures)[0]
    opened = open_example(example, 32)
    assert opened.pixel_values.shape == (3, 32, 32)
    assert opened.pixel_values[:, 0, 0].tolist() == pytest.approx([1, -1, -1], abs=0.02)
    assert opened.reference.size == (40, 48)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "at least one"),
        ('["a.png"]', "Entry 0"),
        ('[{"image_file": "a.png"}]', '"text"'),
        ('[{"image_file": "a.png", "text": "a", "reference_file": 3}]', '"reference_file"'),
    ],
)
def test_a_data_file_of_another_shape_is_explained(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(UserError, match=words):
        read_examples(tmp_path / "data.json", tmp_path)


def test_not_one_good_picture_is_said(pictures: Path) -> None:
    examples = read_examples(pictures / "data.json", pictures / "elsewhere")
    with pytest.raises(UserError, match="Not one picture"):
        ExampleReader(examples, size=8).open_or_next(0)


def test_held_out_pictures_are_in_no_training_example(tmp_path: Path) -> None:
    entries = [
        {"image_file": f"{number}.png", "text": "", "reference_file": f"{(number + 1) % 40}.png"}
        for number in range(40)
    ]
    (tmp_path / "data.json").write_text(json.dumps(entries))
    train, heldout = split_heldout(read_examples(tmp_path / "data.json", tmp_path), count=3, seed=0)
    assert len(heldout) == 3
    hidden = {path for example in heldout for path in (example.image, example.reference)}
    assert hidden.isdisjoint(path for example in train for path in (example.image, example.reference))
    assert len(train) >= 40 - 3 * 3


def test_every_example_comes_once_before_any_comes_again() -> None:
    seen = [index for batch in islice(batch_indices(10, 4, seed=0), 5) for index in batch]
    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_the_order_goes_on_from_any_batch_and_is_shared_between_processes() -> None:
    whole = list(islice(batch_indices(7, 3, seed=1), 8))
    assert list(islice(batch_indices(7, 3, seed=1, start=5), 3)) == whole[5:]
    shares = [list(islice(batch_indices(7, 3, seed=1, process=process, processes=2), 4)) for process in (0, 1)]
    assert [batch for pair in zip(*shares, strict=True) for batch in pair] == whole
