"""Reading and writing adapter files. What does not fit is reported before anything is built."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from ipa_app.adapter.fitting import check_base
from ipa_app.adapter.header import header_of, read_tensors
from ipa_app.adapter.ip_adapter import PROJECTIONS, IPAdapter
from ipa_app.adapter.layers import attention_layers
from ipa_app.adapter.layout import AdapterLayout, layout_of, published_form
from ipa_app.errors import UserError
from ipa_app.runtime import written_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import UNet2DConditionModel


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AdapterFile(AdapterLayout):
    """The checked content of an adapter file.

    Attributes:
        tensors: its weights, in the flat published form.
    """

    tensors: Mapping[str, Tensor]


def read_adapter(path: Path | str) -> AdapterFile:
    """Read an adapter file and check that it is complete; no code in it is ever run.

    Args:
        path: as for `read_layout`.

    Raises:
        UserError: as `read_layout`.
    """
    tensors = read_tensors(Path(path))
    layout = layout_of(Path(path), header_of(tensors))
    told = {field.name: getattr(layout, field.name) for field in fields(AdapterLayout)}
    return AdapterFile(**told, tensors=published_form(tensors))


def load_adapter(path: Path | str, unet: UNet2DConditionModel) -> IPAdapter:
    """Load an adapter file for a base model: frozen, on the UNet's device and in its dtype.

    Raises:
        UserError: the file cannot be read, or was made for another base model.
    """
    return build_adapter(read_adapter(path), unet)


def build_adapter(file: AdapterFile, unet: UNet2DConditionModel) -> IPAdapter:
    """Build an adapter from a file already read: frozen, on the UNet's device and in its dtype.

    Raises:
        UserError: it was made for another base model.
    """
    layers = attention_layers(unet)
    check_base(file, layers)
    with torch.device("meta"):
        adapter = IPAdapter(PROJECTIONS[file.kind](file.sizes), layers).to(unet.dtype)
    # Copied, not assigned: safetensors memory-maps files, and an adapter must not depend on its file.
    adapter = adapter.to_empty(device=unet.device)
    adapter.load_state_dict(dict(file.tensors))
    return adapter.eval().requires_grad_(False)


def save_adapter(adapter: IPAdapter, path: Path | str, *, dtype: torch.dtype | None = None) -> None:
    """Write an adapter in the published layout; a file of that name is replaced in one step.

    Args:
        adapter: what to write.
        path: `.safetensors` (flat) or `.bin` (nested, for older programs).
        dtype: floating-point type in the file; by default as in memory.

    Raises:
        UserError: the name has another ending.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".bin"):
        raise UserError("adapter.wrong_ending", file=path.name)
    tensors = {
        key: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for key, tensor in adapter.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        write_tensors(tensors, path, metadata={"format": "pt"})
        return
    with written_whole(path) as part:
        torch.save(_nest(tensors), part)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically, with the permissions that new files get here.

    Args:
        tensors: contiguous, on the CPU.
        path: where to write; a file of that name is replaced.
        metadata: kept in the file's header.
    """
    with written_whole(path) as part:
        save_file(dict(tensors), part, metadata=None if metadata is None else dict(metadata))


def _nest(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    nested: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        nested[part][name] = tensor
    return nested
