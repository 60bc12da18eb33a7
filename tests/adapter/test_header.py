"""Headers of files from any source, read before the tensors."""

from __future__ import annotations

import contextlib
import json
import random
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ipa_app.adapter.header import (
    DamagedError,
    TensorInfo,
    header_of,
    read_header,
    read_pickled,
    read_safetensors,
    read_tensors,
)
from ipa_app.errors import UserError
from tests.adapter_files import safetensors_file, write_shapes
from tests.effort import check_cpu_s

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


def test_types_in_memory_are_called_as_files_call_them(tmp_path: Path) -> None:
    types = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
    tensors = {name: torch.ones(2).to(getattr(torch, name)) for name in types.split()}
    save_file(tensors, tmp_path / "a.safetensors")
    assert header_of(tensors) == read_header(tmp_path / "a.safetensors")


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
    """The header declares a terabyte of weights; the file is sparse."""
    write_shapes(tmp_path / "large.safetensors", {"a": (500_000, 1_000_000)})
    assert read_header(tmp_path / "large.safetensors")["a"].shape == (500_000, 1_000_000)


def test_a_header_that_would_fill_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{")
    with pytest.raises(UserError, match=r"^huge\.safetensors is damaged or incomplete"):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>Sign in</html>", bytes(64)])
@pytest.mark.parametrize("name", ["a.safetensors", "a.SAFETENSORS", "a.sft", "a.bin"])
def test_a_page_in_place_of_a_safetensors_file_is_damaged(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    words = r"a\.bin is not a plain weights file" if name == "a.bin" else r"is damaged or incomplete; download it again"
    for read in (read_header, read_tensors):
        with pytest.raises(UserError, match=words):
            read(tmp_path / name)


def test_a_pytorch_file_with_the_other_ending_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"PK\3\4" + bytes(40))
    with pytest.raises(UserError, match=r"a\.safetensors is not a plain weights file"):
        read_header(tmp_path / "a.safetensors")


def write_header(path: Path, told: dict[str, object], *, room: int) -> int:
    """Write a safetensors file with an arbitrary header; return the header's length."""
    text = json.dumps(told).encode()
    path.write_bytes(safetensors_file(text, room=room))
    return len(text)


@pytest.mark.parametrize("notes", [{"ss_network_dim": "8", "format": "pt"}, None])
def test_what_the_maker_noted_is_told_apart_from_the_tensors(tmp_path: Path, notes: dict[str, str] | None) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", metadata=notes)
    tensors, noted = read_safetensors(tmp_path / "a.safetensors", most_bytes=10_000)
    assert tensors == header_of(TENSORS)
    assert noted == (notes or {})


def test_a_header_may_be_as_long_as_is_said_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    length = write_header(path, {"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, room=24)
    assert read_safetensors(path, most_bytes=length)[0] == {"a": TensorInfo((6,), "F32")}
    with pytest.raises(DamagedError, match=r"^a\.safetensors$"):
        read_safetensors(path, most_bytes=length - 1)


def test_a_file_without_tensors_is_one(tmp_path: Path) -> None:
    write_header(tmp_path / "a.safetensors", {}, room=0)
    assert read_safetensors(tmp_path / "a.safetensors", most_bytes=100) == ({}, {})


def test_a_file_that_lacks_its_last_byte_is_refused(tmp_path: Path) -> None:
    write_header(tmp_path / "a.safetensors", {"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, room=23)
    with pytest.raises(DamagedError, match=r"^a\.safetensors$"):
        read_safetensors(tmp_path / "a.safetensors", most_bytes=100)


def test_what_stands_for_a_file_of_git_lfs_is_called_so(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 22319616\n"
    (tmp_path / "a.safetensors").write_text(pointer)
    with pytest.raises(UserError) as refused:
        read_header(tmp_path / "a.safetensors")
    said = "a.safetensors is only a placeholder for a file kept by Git LFS; please get that file with `git lfs pull`."
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "told",
    [
        {"dtype": "F16", "shape": [12]},
        {"dtype": "I64", "shape": [3]},
        {"dtype": "F32", "shape": [], "data_offsets": [20, 24]},
        {"dtype": "F32", "shape": [0, 3], "data_offsets": [24, 24]},
        {"dtype": "F4", "shape": [48]},
        {"dtype": "F6_E3M2", "shape": [32], "data_offsets": [8, 24]},
    ],
)
def test_a_tensor_is_as_large_as_its_type_makes_it(tmp_path: Path, told: dict[str, object]) -> None:
    """A dtype may take as little as half a byte per element."""
    write_header(tmp_path / "a.safetensors", {"a": {"data_offsets": [0, 24]} | told}, room=24)
    assert read_header(tmp_path / "a.safetensors")["a"].dtype == told["dtype"]


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2, 2]},
        {"dtype": "F16"},
        {"dtype": "I64"},
        {"dtype": "F4", "shape": [49]},
        {"dtype": "F4", "shape": [33], "data_offsets": [8, 24]},
        {"shape": [2, 2**40]},
        {"shape": [2, 2**40], "data_offsets": [0, 2**43]},
        {"shape": [2**31, 2**31, 0]},
        {"shape": [1] * 9 + [6]},
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
    told: dict[str, object] = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    write_header(tmp_path / "a.safetensors", {"a": told | changes}, room=24)
    with pytest.raises(UserError, match=r"^a\.safetensors is damaged or incomplete"):
        read_header(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "told",
    [
        {"a": {"dtype": "F4", "shape": [int("9" * 4000)] * 400, "data_offsets": [0, 0]}},
        {"module." * 100_000: {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}},
    ],
    ids=["large numbers", "a long name"],
)
def test_a_header_that_is_made_to_take_long_is_refused_at_once(tmp_path: Path, told: dict[str, object]) -> None:
    write_header(tmp_path / "a.safetensors", told, room=24)

    def refused() -> None:
        with pytest.raises(UserError, match=r"^a\.safetensors is damaged or incomplete"):
            read_header(tmp_path / "a.safetensors")

    check_cpu_s(refused, most=0.5)


class Huge:
    """An object whose unpickling allocates as much memory as it declares."""

    def __init__(self, *said: object) -> None:
        self.said = said

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return bytearray, self.said


def nested(depth: int) -> dict[str, object]:
    """Return a dict that contains the same dict twice, and so on to this depth."""
    content: dict[str, object] = {}
    for _ in range(depth):
        content = {"a": content, "b": content}
    return content


HOSTILE = {
    "a large array of bytes": {"a": Huge(2 * 10**8)},
    "dicts that hold one another twice": nested(40),
    "a tensor that is larger than its file": {"a": torch.zeros(1).expand(10**6, 10**6)},
    "a long name": {"module." * 100_000: torch.zeros(1)},
}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_pickle_takes_no_more_time_and_memory_than_tensors_do(tmp_path: Path, kind: str, is_zip: bool) -> None:
    torch.save(HOSTILE[kind], tmp_path / "a.bin", _use_new_zipfile_serialization=is_zip)

    def read() -> None:
        with contextlib.suppress(UserError):
            assert read_header(tmp_path / "a.bin") == {}

    check_cpu_s(read, most=2)
    tracemalloc.start()
    read()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 50 * 2**20


def test_a_key_that_would_be_gone_through_for_ever_is_refused(tmp_path: Path) -> None:
    """A pair of the same pair twice, and so on: hashing it takes exponential time."""
    pickled = b"\x80\2}K\1" + b"q\0h\0\x86" * 40 + b"K\1s."
    torch.save(TENSORS, tmp_path / "good.bin")
    with zipfile.ZipFile(tmp_path / "good.bin") as good, zipfile.ZipFile(tmp_path / "a.bin", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, pickled if name.endswith(".pkl") else good.read(name))
    with pytest.raises(UserError, match=r"^a\.bin is not a plain weights file"):
        read_header(tmp_path / "a.bin")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool])
def test_what_tensors_are_put_together_from_is_taken(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = torch.ones(2, 3).to(dtype)
    content = {"state_dict": OrderedDict(a=weights, b=weights, c=torch.nn.Parameter(torch.ones(2))), "epoch": 3}
    torch.save(content, tmp_path / "a.bin")
    header = read_header(tmp_path / "a.bin")
    assert header.keys() == {"state_dict.a", "state_dict.b", "state_dict.c"}
    assert header["state_dict.a"] == header_of({"a": weights})["a"]


def test_an_archive_that_is_told_in_two_ways_is_refused(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "a.bin")
    with zipfile.ZipFile(tmp_path / "a.bin", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a/data.pkl", archive.read("a/data.pkl"))
    with pytest.raises(UserError, match=r"^a\.bin is not a plain weights file"):
        read_header(tmp_path / "a.bin")


def test_a_header_that_is_too_deep_to_be_read_is_refused(tmp_path: Path) -> None:
    text = b'{"a":' * 100_000
    (tmp_path / "deep.safetensors").write_bytes(safetensors_file(text))
    with pytest.raises(UserError, match=r"^deep\.safetensors is damaged or incomplete"):
        read_header(tmp_path / "deep.safetensors")


def test_an_archive_that_unfolds_into_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "good.bin")
    with zipfile.ZipFile(tmp_path / "good.bin") as good, zipfile.ZipFile(tmp_path / "bomb.bin", "w") as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name) + bytes(10**6), compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"^bomb\.bin is not a plain weights file"):
        read_header(tmp_path / "bomb.bin")


@pytest.mark.parametrize(
    ("content", "method"),
    [
        (random.Random(0).randbytes(100), zipfile.ZIP_DEFLATED),
        (bytes(10**5), zipfile.ZIP_DEFLATED),
        (bytes(16 * 2**20 + 1), zipfile.ZIP_STORED),
    ],
    ids=["packed", "larger than the file", "more than a header"],
)
def test_an_archive_is_as_pytorch_writes_it(tmp_path: Path, content: bytes, method: int) -> None:
    """Nothing is compressed, and no entry is larger than any adapter's header or than the file itself."""
    torch.save(TENSORS, tmp_path / "good.bin")
    with zipfile.ZipFile(tmp_path / "good.bin") as good, zipfile.ZipFile(tmp_path / "bad.bin", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name))
        bad.writestr("more.pkl", content, compress_type=method)
    with pytest.raises(ValueError, match="not an archive of plain weights"):
        read_pickled(tmp_path / "bad.bin", device="cpu")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_come_where_they_are_wanted(tmp_path: Path, device: str) -> None:
    torch.save(TENSORS, tmp_path / "a.bin")
    assert {tensor.device.type for tensor in read_pickled(tmp_path / "a.bin", device=device).values()} == {device}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("is_zip", [True, False])
def test_whatever_a_garbled_file_raises_is_said_in_one_sentence(tmp_path: Path, is_zip: bool) -> None:
    """Truncated anywhere, or with single bytes changed, which the older format does not detect itself."""
    path = tmp_path / "a.bin"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=is_zip)
    whole, random_ = path.read_bytes(), random.Random(0)
    for length in range(0, len(whole) - 1, 9):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"^a\.bin is not a plain weights file"):
            read_header(path)
    for _ in range(300):
        garbled = bytearray(whole)
        garbled[random_.randrange(len(whole))] = random_.randrange(256)
        path.write_bytes(garbled)
        with contextlib.suppress(UserError):
            read_header(path)
