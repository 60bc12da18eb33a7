"""Prepared examples: encoded once, kept, reused, cleaned up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ipa_app.errors import UserError
from ipa_app.training.components import Components
from ipa_app.training.config import DataConfig, TrainConfig
from ipa_app.training.data import read_examples
from ipa_app.training.dataset import Dataset
from ipa_app.training.examples import EncodedBatch
from ipa_app.training.loop import make_accelerator
from ipa_app.training.run import prepare_base
from ipa_app.training.stopping import Stopped

MakeDataset = Callable[..., Dataset]


@pytest.fixture
def make_dataset(base: Components, pictures: Path, make_config: Callable[..., TrainConfig]) -> MakeDataset:
    def make(*, kind: str = "base", batch_size: int = 5, data: Path | None = None, **settings: object) -> Dataset:
        config = make_config(adapter=kind, batch_size=batch_size)
        prepare_base(base, config, make_accelerator(config))
        given = DataConfig(base=pictures, data=data or pictures / "data.json", **settings)
        return Dataset(config, given, base, read_examples(given, seed=0))

    return make


def encoded(dataset: Dataset, *, count: int = 3) -> list[EncodedBatch]:
    accelerator = make_accelerator(dataset.config)
    dataset.encode(accelerator)
    return [dataset.encoder.encode(batch) for batch in islice(dataset.batches(accelerator), count)]


def parts(dataset: Dataset) -> list[Path]:
    return sorted(dataset.config.output.glob("encoded-*/*/*.safetensors"))


class StopAfter:
    """Ask to stop after this many calls."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_examples_kept_encoded_are_those_opened_each_time(kind: str, make_dataset: MakeDataset) -> None:
    opening = make_dataset(kind=kind, cache_gb=0)
    assert (len(opening.examples.train), len(opening.examples.heldout)) == (11, 1)
    opened = encoded(opening)
    assert not opening.config.output.exists()
    keeping = make_dataset(kind=kind)
    kept = encoded(keeping)
    written = {file: file.stat().st_mtime_ns for file in parts(keeping)}
    again = encoded(make_dataset(kind=kind))
    assert {file: file.stat().st_mtime_ns for file in parts(keeping)} == written
    for one, other, third in zip(opened, kept, again, strict=True):
        for name in ("latents", "latents_std", "text_states", "features"):
            assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-5)
            assert torch.equal(getattr(other, name), getattr(third, name))


def test_an_end_while_encoding_keeps_what_is_done_and_changes_nothing(
    make_dataset: MakeDataset, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    whole = encoded(make_dataset())
    make_dataset().config.output.rename(tmp_path / "whole")
    counts = []
    for _ in range(2):
        with pytest.raises(Stopped):
            make_dataset().encode(make_accelerator(make_config()), stop=StopAfter(0))
        counts.append(make_dataset().missing_bytes())
    assert 0 < counts[1] < counts[0]
    done: list[tuple[int, int]] = []
    dataset = make_dataset()
    dataset.encode(make_accelerator(make_config()), progress=lambda *numbers: done.append(numbers))
    assert done == [(12, 0)]  # eight had been encoded
    for one, other in zip(whole, encoded(make_dataset()), strict=True):
        assert torch.equal(one.latents, other.latents)
        assert torch.equal(one.features, other.features)
        assert torch.equal(one.text_states, other.text_states)


def test_only_what_is_new_is_encoded(make_dataset: MakeDataset, pictures: Path) -> None:
    encoded(make_dataset())
    size = make_dataset().encoded_bytes
    Image.new("RGB", (30, 30), "white").save(pictures / "5.png")
    entries = json.loads((pictures / "data.json").read_text())
    (pictures / "data.json").write_text(json.dumps([*entries, {"image_file": "5.png", "text": "another text"}]))
    changed = make_dataset()
    assert 0 < changed.missing_bytes() < size / 6
    encoded(changed)
    assert make_dataset().missing_bytes() == 0


def test_pictures_of_one_name_in_two_folders_are_each_encoded(
    make_dataset: MakeDataset, pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for folder, colour in ((pictures, "black"), (other, "white")):
        Image.new("RGB", (64, 64), colour).save(folder / "same.bmp")  # the same size as the other file
        os.utime(folder / "same.bmp", (1e9, 1e9))
        (folder / "one.json").write_text('[{"image_file": "same.bmp", "text": ""}]')
    dataset = make_dataset(data=pictures / "one.json", heldout_data=other / "one.json", size=64)
    (trained,) = encoded(dataset, count=1)
    (measured,) = dataset.heldout_batches()
    assert dataset.pictures == 2
    assert not torch.allclose(trained.latents[0], measured.latents[0], atol=1e-3)


@pytest.mark.parametrize("size", [7, 60])
def test_a_size_that_the_autoencoder_cannot_take_is_refused(size: int, make_dataset: MakeDataset) -> None:
    with pytest.raises(UserError, match=rf"size is {size}; the autoencoder of this model takes only multiples of 8\."):
        make_dataset(size=size)


@pytest.mark.parametrize("size", [8, 24])
def test_every_other_size_can_be_encoded(size: int, make_dataset: MakeDataset) -> None:
    assert encoded(make_dataset(size=size), count=1)[0].latents.shape[-2:] == (size // 8, size // 8)


def test_a_damaged_file_is_encoded_anew(make_dataset: MakeDataset) -> None:
    before = encoded(make_dataset())
    file = next(file for file in parts(make_dataset()) if file.parent.name == "pictures")
    file.write_bytes(file.read_bytes()[:100])
    after = encoded(make_dataset())
    assert torch.equal(before[0].latents, after[0].latents)


def test_what_other_settings_left_is_removed_and_nothing_else(
    make_dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    output = make_dataset().config.output
    output.mkdir()
    save_file({"latents": torch.zeros(1000)}, output / "encoded-0123456789abcdef.safetensors")
    (output / "encoded-0123456789abcdef.42.unfinished").write_bytes(b"x" * 100)
    for name in ("encoded-mine.safetensors", "encoded-0123456789abcdef.txt", "mine.safetensors"):
        (output / name).touch()
    caplog.set_level("INFO")
    encoded(make_dataset(kind="base"))
    encoded(make_dataset(kind="plus"))
    (folder,) = (path for path in output.iterdir() if path.is_dir())
    assert folder.name == make_dataset(kind="plus").cache_name
    left = {path.name for path in output.iterdir() if path.is_file()}
    assert left == {"encoded-mine.safetensors", "encoded-0123456789abcdef.txt", "mine.safetensors"}
    removed = [message for message in caplog.messages if message.startswith("Removed")]
    assert removed[0] == "Removed 4 kB of examples that were encoded with other settings."
    assert len(removed) == 2


@pytest.mark.skipif(os.name == "nt", reason="permissions are of another kind")
def test_what_is_kept_may_be_read_by_whom_new_files_may(make_dataset: MakeDataset) -> None:
    encoded(make_dataset())
    umask = os.umask(0)
    os.umask(umask)
    assert {file.stat().st_mode & 0o777 for file in parts(make_dataset())} == {0o666 & ~umask}


def test_a_picture_that_counts_twice_comes_twice(make_dataset: MakeDataset, pictures: Path) -> None:
    (pictures / "data.json").unlink()
    (pictures / "3_red").mkdir()
    for number in (0, 4):
        (pictures / f"{number}.png").rename(pictures / "3_red" / f"{number}.png")
    dataset = make_dataset(data=pictures, heldout=0, batch_size=16)
    (batch,) = encoded(dataset, count=1)
    _, counts = torch.unique(batch.latents, dim=0, return_counts=True)
    assert sorted(counts.tolist()) == [1] * 10 + [3, 3]


def test_bad_pictures_are_left_out_of_both_parts(make_dataset: MakeDataset, pictures: Path) -> None:
    (pictures / "heldout.json").write_text(
        json.dumps([{"image_file": name, "text": ""} for name in ("bad.png", "0.png")])
    )
    for name in ("bad.png", "7.png"):
        (pictures / name).write_bytes(b"not a picture")
    dataset = make_dataset(heldout_data=pictures / "heldout.json")
    assert len(encoded(dataset)[0].latents) == 5
    assert [len(batch) for batch in dataset.heldout_batches()] == [1]
    assert len(dataset.samples()) == 1
    assert set(dataset.examples.skipped.reasons) == {"bad.png", "7.png"}


def test_not_one_picture_to_train_on_is_said(make_dataset: MakeDataset, pictures: Path) -> None:
    Image.open(pictures / "0.png").save(pictures / "good.png")
    (pictures / "heldout.json").write_text('[{"image_file": "good.png", "text": ""}]')
    for number in range(12):
        (pictures / f"{number}.png").write_bytes(b"not a picture")
    dataset = make_dataset(heldout_data=pictures / "heldout.json")
    with pytest.raises(UserError, match="None of the training pictures can be opened; the first is 0.png"):
        dataset.encode(make_accelerator(dataset.config))


def test_texts_that_are_too_long_for_the_text_encoder_are_named(make_dataset: MakeDataset, pictures: Path) -> None:
    entries = json.loads((pictures / "data.json").read_text())
    entries[4]["text"] = "a red hat " * 20
    (pictures / "data.json").write_text(json.dumps(entries))
    assert make_dataset().cut_texts() == ["4.png"]


def test_a_disk_that_fills_up_is_one_sentence_and_keeps_what_is_written(
    make_dataset: MakeDataset, make_config: Callable[..., TrainConfig]
) -> None:
    resource = pytest.importorskip("resource", reason="limits on files are Unix's")
    with pytest.raises(Stopped):
        make_dataset().encode(make_accelerator(make_config()), stop=StopAfter(0))
    written = parts(make_dataset())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # larger files cannot be written, as on a full disk
    try:
        with pytest.raises(UserError, match=r"The encoded pictures cannot be kept in .*out \(.*\); fix this"):
            make_dataset().encode(make_accelerator(make_config()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert parts(make_dataset()) == written
    encoded(make_dataset())
    assert not list(make_config().output.glob("encoded-*/*/*.part"))
