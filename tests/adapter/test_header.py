"""What is told of a file before its tensors are read, whoever made it."""

from __future__ import annotations

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
        assert {key: tensor.is_floating for key, tensor in header.items()} == {"a.weight": True, "a.bias": False}
        assert header_of(read_tensors(tmp_path / name)).keys() == header.keys()


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F8_E4M3", "float16", "bfloat16", "float8_e5m2"])
def test_floating_point_is_told_from_whole_numbers(dtype: str) -> None:
    assert TensorInfo((1,), dtype).is_floating
    assert not TensorInfo((1,), "I8").is_floating
    assert not TensorInfo((1,), "uint8").is_floating


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
    with pytest.raises(UserError, match=r"^huge\.safetensors is not a file of plain weights"):
        read_header(path)


def test_an_archive_that_unfolds_into_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "good.bin")
    with zipfile.ZipFile(tmp_path / "good.bin") as good, zipfile.ZipFile(tmp_path / "bomb.bin", "w") as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name) + bytes(10**6), compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"^bomb\.bin is not a file of plain weights"):
        read_header(tmp_path / "bomb.bin")
