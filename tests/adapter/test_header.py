"""What is told of a file before its tensors are read, whoever made it."""

from __future__ import annotations

import contextlib
import json
import random
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ipa_app.adapter.header import TensorInfo, header_of, read_header, read_tensors
from ipa_app.errors import UserError
from tests.adapter_files import write_shapes

TENSORS = {"a.weight": torch.ones(2, 3, dtype=torch.float16), "a.bias": torch.zeros(4, dtype=torch.int8)}


def test_both_formats_tell_names_shapes_and_types(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    torch.save({"a": {name.removeprefix("a."): tensor for name, tensor in TENSORS.items()}}, tmp_path / "a.bin")
    torch.save(TENSORS, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "a.bin", "old.bin"):
        header = read_header(tmp_path / name)
        assert {key: tensor.shape for key, tensor in header.items()} == {"a.weight": (2, 3), "a.bias": (4,)}
        assert {key: tensor.dtype for key, tensor in header.items()} == {"a.weight": "F16", "a.bias": "I8"}
        assert header_of(read_tensors(tmp_path / name)).keys() == header.keys()


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E4M3"])
def test_floating_point_is_told_from_whole_numbers(dtype: str) -> None:
    assert TensorInfo((1,), dtype).is_floating
    assert not TensorInfo((1,), "I8").is_floating
    assert not TensorInfo((1,), "U8").is_floating


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_types_that_numpy_has_not_are_told_all_the_same(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"a": torch.ones(2, 3).to(dtype)}, tmp_path / "a.safetensors")
    assert read_header(tmp_path / "a.safetensors")["a"].is_floating


def test_a_header_is_told_without_reading_what_follows(tmp_path: Path) -> None:
    """A terabyte of weights, of which no disk keeps a byte."""
    write_shapes(tmp_path / "large.safetensors", {"a": (500_000, 1_000_000)})
    assert read_header(tmp_path / "large.safetensors")["a"].shape == (500_000, 1_000_000)


def test_a_header_that_would_fill_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{")
    with pytest.raises(UserError, match=r"^huge\.safetensors is damaged or cut off"):
        read_header(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2, 2**40]},
        {"shape": [-2, -3]},
        {"shape": "23"},
        {"dtype": 7},
        {"dtype": "F6_E3M2", "shape": [2, 2**40]},
        {"data_offsets": [0, 2**50]},
        {"data_offsets": [24, 0]},
        {"data_offsets": []},
    ],
)
def test_a_tensor_is_not_larger_than_what_there_is_of_it(tmp_path: Path, changes: dict[str, object]) -> None:
    told = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes}
    text = json.dumps(told).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    with pytest.raises(UserError, match=r"^a\.safetensors is damaged or cut off"):
        read_header(tmp_path / "a.safetensors")


def test_a_header_that_is_too_deep_to_be_read_is_refused(tmp_path: Path) -> None:
    text = b'{"a":' * 100_000
    (tmp_path / "deep.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(UserError, match=r"^deep\.safetensors is damaged or cut off"):
        read_header(tmp_path / "deep.safetensors")


def test_an_archive_that_unfolds_into_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "good.bin")
    with zipfile.ZipFile(tmp_path / "good.bin") as good, zipfile.ZipFile(tmp_path / "bomb.bin", "w") as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name) + bytes(10**6), compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"^bomb\.bin is not a file of plain weights"):
        read_header(tmp_path / "bomb.bin")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("is_zip", [True, False])
def test_whatever_a_garbled_file_raises_is_said_in_one_sentence(tmp_path: Path, is_zip: bool) -> None:
    """Cut off anywhere, or with single bytes changed, which the older format does not notice by itself."""
    path = tmp_path / "a.bin"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=is_zip)
    whole, random_ = path.read_bytes(), random.Random(0)
    for length in range(0, len(whole) - 1, 9):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"^a\.bin is not a file of plain weights"):
            read_header(path)
    for _ in range(300):
        garbled = bytearray(whole)
        garbled[random_.randrange(len(whole))] = random_.randrange(256)
        path.write_bytes(garbled)
        with contextlib.suppress(UserError):
            read_header(path)
