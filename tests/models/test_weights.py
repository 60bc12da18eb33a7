"""Which of several weight files is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

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


def test_a_folder_without_weights_has_none(tmp_path: Path) -> None:
    assert find_weights(folder_of(tmp_path, "config.json", "model.onnx", "model.ckpt"), prefer_half=True) is None
    assert find_weights(tmp_path / "nowhere", prefer_half=True) is None


def test_numbers_are_counted_without_loading(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(3, 5), "b": torch.zeros(()), "c": torch.zeros(2, 0)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    torch.save({"a": torch.zeros(1000, 1000)}, tmp_path / "pytorch_model.bin")
    files = find_weights(tmp_path, prefer_half=False)
    assert files is not None
    assert files.numbers == 16
    (tmp_path / "model.safetensors").unlink()
    files = find_weights(tmp_path, prefer_half=False)
    assert files is not None
    assert abs(files.numbers - 10**6) < 1000


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]", b"\x09\0\0\0\0\0\0\0{}"])
def test_a_damaged_header_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors in .* is damaged or cut off"):
        read_header(path)
