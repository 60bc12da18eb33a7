"""Which of several weight files is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ipa_app.adapter.layout import read_layout
from ipa_app.errors import UserError
from ipa_app.models.weights import find_weights, read_header


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "prefer_half", "chosen", "variant"),
    [
        (["model.safetensors", "model.fp16.safetensors"], False, "model.safetensors", None),
        (["model.safetensors", "model.fp16.safetensors"], True, "model.fp16.safetensors", "fp16"),
        (["model.fp16.safetensors", "pytorch_model.bin"], False, "model.fp16.safetensors", "fp16"),
        (["pytorch_model.bin", "pytorch_model.fp16.bin"], False, "pytorch_model.bin", None),
        (["pytorch_model.fp16.bin"], False, "pytorch_model.fp16.bin", "fp16"),
        (
            ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.non_ema.bin"],
            True,
            "diffusion_pytorch_model.bin",
            None,
        ),
        (["model.bf16.safetensors"], False, "model.bf16.safetensors", "bf16"),
        (["model.bf16.safetensors", "model.fp16.safetensors"], True, "model.fp16.safetensors", "fp16"),
        (["model.bf16.safetensors", "model.safetensors"], True, "model.bf16.safetensors", "bf16"),
        (["model.non_ema.safetensors"], True, "model.non_ema.safetensors", "non_ema"),
        (["model.non_ema.safetensors", "model.ema.safetensors"], False, "model.ema.safetensors", "ema"),
        (["model.non_ema.safetensors", "model.own.safetensors"], True, "model.own.safetensors", "own"),
        (["model.my-own.safetensors", "pytorch_model.bin"], True, "model.my-own.safetensors", "my-own"),
        (["model.non-ema.safetensors", "model.own.safetensors"], True, "model.own.safetensors", "own"),
        (["model.fp32.safetensors", "model.fp16.safetensors"], False, "model.fp32.safetensors", "fp32"),
    ],
)
def test_safetensors_come_first_then_the_precision(
    tmp_path: Path, names: list[str], prefer_half: bool, chosen: str, variant: str | None
) -> None:
    files = find_weights(folder_of(tmp_path, "config.json", *names), prefer_half=prefer_half)
    assert files is not None
    assert [path.name for path in files.paths] == [chosen]
    assert files.options == {"variant": variant, "use_safetensors": chosen.endswith(".safetensors")}


def test_pieces_belong_together(tmp_path: Path) -> None:
    names = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    files = find_weights(
        folder_of(tmp_path, "diffusion_pytorch_model.safetensors.index.json", *names), prefer_half=True
    )
    assert files is not None
    assert [path.name for path in files.paths] == names


@pytest.mark.parametrize("variant", ["fp16", "my-own"])
@pytest.mark.parametrize(
    "pattern",
    [
        "model.{}-0000{}-of-00002.safetensors",
        "model-0000{1}-of-00002.{0}.safetensors",
        "diffusion_pytorch_model.{}-0000{}-of-00002.safetensors",
    ],
)
def test_pieces_of_a_variant_belong_together(tmp_path: Path, pattern: str, variant: str) -> None:
    names = [pattern.format(variant, number) for number in (1, 2)]
    files = find_weights(folder_of(tmp_path, *names), prefer_half=False)
    assert files is not None
    assert ([path.name for path in files.paths], files.variant, files.missing) == (names, variant, 0)


def test_a_missing_piece_is_noticed_and_whole_files_come_first(tmp_path: Path) -> None:
    files = find_weights(folder_of(tmp_path, "model-00001-of-00003.safetensors"), prefer_half=False)
    assert files is not None
    assert files.missing == 2
    files = find_weights(folder_of(tmp_path, "pytorch_model.fp16.bin"), prefer_half=False)
    assert files is not None
    assert (files.paths[0].name, files.missing) == ("pytorch_model.fp16.bin", 0)


def test_a_whole_file_and_pieces_of_the_same_name_are_two_choices(tmp_path: Path) -> None:
    files = find_weights(
        folder_of(tmp_path, "model.safetensors", "model-00001-of-00002.safetensors"), prefer_half=False
    )
    assert files is not None
    assert [path.name for path in files.paths] == ["model.safetensors"]


def test_a_folder_without_weights_has_none(tmp_path: Path) -> None:
    assert find_weights(folder_of(tmp_path, "config.json", "model.onnx", "model.ckpt"), prefer_half=True) is None
    assert find_weights(tmp_path / "nowhere", prefer_half=True) is None


def test_numbers_are_counted_without_loading(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(3, 5), "b": torch.zeros(()), "c": torch.zeros(2, 0)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    torch.save({"a": torch.zeros(1000, 1000)}, tmp_path / "pytorch_model.bin")
    files = find_weights(tmp_path, prefer_half=False)
    assert files is not None
    assert files.numel == 16
    (tmp_path / "model.safetensors").unlink()
    files = find_weights(tmp_path, prefer_half=False)
    assert files is not None
    assert abs(files.numel - 10**6) < 1000


def test_what_a_pytorch_file_holds_is_told_as_of_other_files(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.zeros(3, 5, dtype=torch.bfloat16), "b": torch.zeros(2, dtype=torch.int64)}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "model.bin")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"modelspec.title": "Dream"})
    pickled, plain = read_header(tmp_path / "model.bin"), read_header(tmp_path / "model.safetensors")
    assert dict(pickled) == dict(plain)
    assert plain.notes == {"modelspec.title": "Dream"}
    with pytest.raises(UserError, match=r"model\.bin is a PyTorch file; please use the \.safetensors version"):
        read_header(tmp_path / "model.bin", pickles=False)


def test_a_pytorch_file_that_holds_itself_is_read_to_its_end(tmp_path: Path) -> None:
    content: dict[str, object] = {"a.weight": torch.zeros(3, 5)}
    content["state_dict"] = content
    torch.save(content, tmp_path / "model.bin")
    assert list(read_header(tmp_path / "model.bin")) == ["a.weight"]
    with pytest.raises(UserError, match=r"^model\.bin is not a plain weights file"):
        read_layout(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("name", "dtype", "kind"),
    [
        ("a.weight", torch.float8_e4m3fn, "fp8"),
        ("a.weight", torch.int8, "int8"),
        ("a.weight", torch.uint8, "uint8"),
        ("a.weight", torch.int32, "i32"),
        ("a.weight.quant_state.bitsandbytes__nf4", torch.uint8, "NF4"),
        ("a.weight.quant_state.bitsandbytes__fp4", torch.uint8, "FP4"),
        ("a.weight_scale", torch.float32, "fp8"),
        ("a.qweight", torch.int32, "int4"),
        ("a.SCB", torch.float32, "int8"),
        ("a.weight", torch.bfloat16, None),
        ("text_model.embeddings.position_ids", torch.int64, None),
        ("a.num_batches_tracked", torch.int64, None),
        ("a.table", torch.int64, None),
    ],
)
def test_packed_numbers_are_told_from_plain_ones(
    tmp_path: Path, name: str, dtype: torch.dtype, kind: str | None
) -> None:
    save_file({name: torch.zeros(2, 2).to(dtype), "v_pred": torch.tensor([])}, tmp_path / "model.safetensors")
    assert read_header(tmp_path / "model.safetensors").quantisation == kind


def test_a_file_that_ends_too_early_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged or incomplete"):
        read_header(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 20,
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x09\0\0\0\0\0\0\0{}",
        b"\x13\0\0\0\0\0\0\0" + b'{"__metadata__": 3}',
    ],
)
def test_a_damaged_header_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors in .* is damaged or incomplete"):
        read_header(path)
