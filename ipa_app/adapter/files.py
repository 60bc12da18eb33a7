"""Reading and writing adapter files; what does not fit is explained before anything is built."""

from __future__ import annotations

import pickle
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.adapter.kinds import AdapterKind
from ipa_app.adapter.layers import AttentionLayer, attention_layers
from ipa_app.adapter.layout import Tensors, adapter_kind, check_complete, file_layers, flatten, projection_for
from ipa_app.errors import UserError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPVisionConfig

_BASE_MODELS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
_ENCODERS_BY_PROJECTION = {768: "CLIP ViT-L/14", 1024: "OpenCLIP ViT-H/14", 1280: "OpenCLIP ViT-bigG/14"}
_ENCODERS_BY_HIDDEN = {1024: "CLIP ViT-L/14", 1280: "OpenCLIP ViT-H/14", 1664: "OpenCLIP ViT-bigG/14"}

# All that torch.load lets through when a file is cut off, garbled or holds more than tensors.
_LOAD_ERRORS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, eq=False)
class AdapterFile:
    """The checked content of an adapter file.

    Attributes:
        path: where it was read from.
        kind: told by its keys.
        layers: what it has keys and values for; their names are their numbers.
        clip_dim: width of the image features that it takes.
        num_tokens: image tokens per picture.
        tensors: its weights, in the flat published form.
    """

    path: Path
    kind: AdapterKind
    layers: tuple[AttentionLayer, ...]
    clip_dim: int
    num_tokens: int
    tensors: Tensors

    @property
    def cross_attention_dim(self) -> int:
        """Width of its tokens, which tells the family of base models."""
        return self.layers[0].cross_attention_dim


def read_adapter(path: Path | str) -> AdapterFile:
    """Read an adapter file and check that it is whole; no code in it is ever run.

    Args:
        path: a ``.safetensors`` or a PyTorch file, told by content.

    Raises:
        UserError: there is no such file, it holds more than tensors, or it is not a known kind of adapter.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no adapter file {path}.")
    tensors = flatten(_read_content(path))
    try:
        kind = adapter_kind(tensors)
        check_complete(tensors, kind)
        layers = file_layers(tensors)
        with torch.device("meta"):
            projection = projection_for(tensors, kind)
    except UserError as error:
        raise UserError(f"{path.name} {error}") from None
    return AdapterFile(path, kind, layers, projection.clip_dim, projection.num_tokens, tensors)


def load_adapter(path: Path | str, unet: UNet2DConditionModel) -> IPAdapter:
    """Load an adapter for a base model: frozen, on the UNet's device and in its dtype.

    Raises:
        UserError: the file cannot be read, or was made for another base model.
    """
    return build_adapter(read_adapter(path), unet)


def build_adapter(file: AdapterFile, unet: UNet2DConditionModel) -> IPAdapter:
    """Build the adapter of a file for a base model: frozen, on the UNet's device and in its dtype.

    Raises:
        UserError: it was made for another base model.
    """
    layers = attention_layers(unet)
    check_base(file, layers)
    with torch.device("meta"):
        adapter = IPAdapter(projection_for(file.tensors, file.kind), layers).to(unet.dtype)
    # Copied, not assigned: safetensors maps files into memory, and an adapter must not depend on its file.
    adapter = adapter.to_empty(device=unet.device)
    adapter.load_state_dict(dict(file.tensors))
    return adapter.eval().requires_grad_(False)


def check_base(file: AdapterFile, layers: Sequence[AttentionLayer]) -> None:
    """Make sure that a file's layers are those of a base model.

    Raises:
        UserError: they are not; the message names both sides.
    """
    wanted = [(layer.index, layer.hidden_size, layer.cross_attention_dim) for layer in layers]
    given = [(layer.index, layer.hidden_size, layer.cross_attention_dim) for layer in file.layers]
    if given == wanted:
        return
    made_for, model = _describe_base(file.layers), _describe_base(layers)
    if made_for != model:
        raise UserError(f"{file.path.name} was made for {made_for}, but this base model is {model}.")
    theirs, ours = next((a, b) for a, b in zip(given, wanted, strict=True) if a != b)
    raise UserError(
        f"{file.path.name} was made for another base model: its layer {theirs[0]} is {theirs[1]} wide, "
        f"this model's layer {ours[0]} is {ours[1]} wide."
    )


def check_encoder(adapter: IPAdapter | AdapterFile, config: CLIPVisionConfig) -> None:
    """Make sure that a vision tower gives what an adapter takes.

    Raises:
        UserError: it does not; the message names both sides.
    """
    pooled = adapter.kind == "base"
    names = _ENCODERS_BY_PROJECTION if pooled else _ENCODERS_BY_HIDDEN
    given = config.projection_dim if pooled else config.hidden_size
    if given != adapter.clip_dim:
        what = adapter.path.name if isinstance(adapter, AdapterFile) else f"This {adapter.kind} adapter"
        raise UserError(
            f"{what} needs an image encoder whose {'embedding is' if pooled else 'layers are'} "
            f"{_describe_width(adapter.clip_dim, names)} wide, but this model's is {_describe_width(given, names)}."
        )


def base_name(cross_attention_dim: object) -> str:
    """Name the family of base models whose text tokens are this wide."""
    known = isinstance(cross_attention_dim, int) and cross_attention_dim in _BASE_MODELS
    return _BASE_MODELS[cross_attention_dim] if known else "a model of its own"


def save_adapter(adapter: IPAdapter, path: Path | str, *, dtype: torch.dtype | None = None) -> None:
    """Write an adapter in the published layout; a file of that name is replaced in one step.

    Args:
        adapter: what to write.
        path: ``.safetensors`` (flat) or ``.bin`` (nested, for older programs).
        dtype: floating-point type in the file; by default as in memory.

    Raises:
        UserError: the name ends otherwise.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".bin"):
        raise UserError(f"An adapter file's name must end in .safetensors or .bin, not like {path.name}.")
    tensors = {
        key: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for key, tensor in adapter.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        write_tensors(tensors, path, metadata={"format": "pt"})
        return
    unfinished = path.with_name(f"{path.name}.part")
    torch.save(_nest(tensors), unfinished)
    unfinished.replace(path)


def write_tensors(tensors: Tensors, path: Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file in one step, to be read by whoever may read new files here.

    safetensors itself leaves files that nobody but their owner can read.

    Args:
        tensors: contiguous, in main memory.
        path: where to; a file of that name is replaced.
        metadata: kept in the file's header.
    """
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.unlink(missing_ok=True)
    unfinished.touch()
    mode = stat.S_IMODE(unfinished.stat().st_mode)
    try:
        save_file(dict(tensors), unfinished, metadata=None if metadata is None else dict(metadata))
        unfinished.chmod(mode)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)  # half a file helps nobody, least of all on a full disk


def _read_content(path: Path) -> object:
    try:
        if _is_safetensors(path):
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError:
        raise UserError(f"{path.name} is damaged or cut off; fetch it again.") from None
    except OSError as error:
        raise UserError(f"{path.name} cannot be read ({error.strerror}); fetch it again.") from None
    except _LOAD_ERRORS:
        raise UserError(
            f"{path.name} is not a file of plain weights (damaged, or it holds program code, which is never run); "
            "use the .safetensors version."
        ) from None


def _is_safetensors(path: Path) -> bool:
    """Tell by content: eight bytes of header length, then JSON; pickles and zip archives begin otherwise."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _nest(tensors: Tensors) -> dict[str, dict[str, torch.Tensor]]:
    nested: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        nested[part][name] = tensor
    return nested


def _describe_base(layers: Sequence[AttentionLayer]) -> str:
    width = layers[0].cross_attention_dim
    return f"{base_name(width)} ({len(layers)} cross-attention layers, text tokens {width} wide)"


def _describe_width(width: int, names: dict[int, str]) -> str:
    return f"{width} ({names[width]})" if width in names else str(width)
