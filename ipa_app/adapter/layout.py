"""The published layout of adapter weights: telling kinds apart, and converting variants to one form.

That form is a flat dict of `image_proj.<key>` and `ip_adapter.<n>.to_k_ip.weight` / `to_v_ip`. Kinds and
sizes are read from keys and shapes, never from a file's name. All of it works on a file's header, without PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ipa_app.adapter.header import Header, read_header
from ipa_app.adapter.kinds import KINDS
from ipa_app.adapter.layers import AttentionLayer, numbered
from ipa_app.adapter.shapes import (
    LayoutError,
    ProjectionSizes,
    adapter_shapes,
    check_complete,
    check_tokens,
    projection_sizes,
    size,
)
from ipa_app.messages import Message

T = TypeVar("T")

MOST_TENSORS = 1024
"""Five times as many as an SDXL adapter has."""

_WRAPPERS = ("module.", "state_dict.", "model.")
_RENAMED = {"image_proj_model.": "image_proj.", "adapter_modules.": "ip_adapter."}
_PROCESSOR_KEY = re.compile(r"unet\.(?P<name>(?:down_blocks|up_blocks|mid_block)\..*attn2\.processor)\.(?P<key>.+)")
_OTHER_SORTS = {
    Message("content.pulid"): ("id_adapter.", "id_adapter_attn_layers.", "pulid_ca.", "pulid_encoder."),
    Message("content.flux_adapter"): ("double_blocks.", "ip_adapter_proj_model."),
    Message("content.t2i_adapter"): ("adapter.", "body."),
    Message("content.controlnet"): ("control_model.", "controlnet_", "input_hint_block.", "zero_convs."),
    Message("content.lora"): ("lora_unet_", "lora_te", "base_model.model."),
    Message("content.model"): ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner."),
    Message("content.image_encoder"): ("vision_model.", "visual."),
    Message("content.textual_inversion"): ("emb_params", "string_to_param", "clip_l", "clip_g"),
}
"""Other files that people mistake for adapters, by what some of their keys begin with."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AdapterLayout:
    """What an adapter file is, according to its header, which has been checked to be complete.

    Attributes:
        path: of the file.
        kind: the name of its kind.
        layers: the layers it has keys and values for; their names are their numbers.
        sizes: of its projection.
        numel: number of elements of its tensors.
    """

    path: Path
    kind: str
    layers: tuple[AttentionLayer, ...]
    sizes: ProjectionSizes
    numel: int

    @property
    def clip_dim(self) -> int:
        """Width of the image features that it takes."""
        return self.sizes.clip_dim

    @property
    def num_tokens(self) -> int:
        """Image tokens per picture."""
        return self.sizes.num_tokens

    @property
    def cross_attention_dim(self) -> int:
        """Width of its tokens, which shows the family of base models."""
        return self.sizes.cross_attention_dim


def read_layout(path: Path) -> AdapterLayout:
    """Read an adapter file's layout from its header, and check that the file is complete; its weights are not read.

    Args:
        path: a `.safetensors` or a PyTorch file, recognised by its content.

    Raises:
        UserError: there is no such file, it holds more than tensors, or is not a complete adapter of a known kind.
    """
    return layout_of(path, read_header(path))


def layout_of(path: Path, header: Header) -> AdapterLayout:
    """Return an adapter file's layout from its header, as stored.

    Raises:
        UserError: it is not a complete adapter of a known kind.
    """
    try:
        kind = adapter_kind(header)
        published = published_form(header)
        if len(published) > MOST_TENSORS:
            raise LayoutError("adapter.too_many_tensors", count=len(published), most=MOST_TENSORS)
        layers = file_layers(published)
        sizes = projection_sizes(kind, published, cross_attention_dim=layers[0].cross_attention_dim)
        check_complete(published, adapter_shapes(kind, sizes, layers), kind=kind)
        check_tokens(sizes.num_tokens)
        numel = sum(tensor.numel for tensor in published.values())
        return AdapterLayout(path=path, kind=kind, layers=layers, sizes=sizes, numel=numel)
    except LayoutError as error:
        raise error.of(path) from None


def published_form(tensors: Mapping[str, T]) -> dict[str, T]:
    """Convert a file's content to the flat published form; whatever belongs to no adapter is left out.

    Accepts wrappers such as `state_dict` or `module.`, the training-time prefixes `image_proj_model.` and
    `adapter_modules.`, and whole training checkpoints in which the keys and values are found under the UNet's
    processors instead (the one that accelerate keeps of two names for one tensor).
    """
    published: dict[str, T] = {}
    processors: dict[str, T] = {}
    for key, tensor in tensors.items():
        name = _canonical(key)
        if name.startswith(("image_proj.", "ip_adapter.")):
            published[name] = tensor
        elif _PROCESSOR_KEY.fullmatch(name) and "_ip." in name:
            processors[name] = tensor
    if not any(name.startswith("ip_adapter.") for name in published):
        published |= _number_processors(processors)
    return published


def adapter_kind(header: Header) -> str:
    """Return the kind of an adapter from its keys, as stored in the file.

    Raises:
        LayoutError: it is a FaceID adapter, not an adapter at all, or of no known kind.
    """
    names = [_canonical(key) for key in header]
    keys = {name.removeprefix("image_proj.") for name in names if name.startswith("image_proj.")}
    if not keys:
        raise _not_an_adapter(header)
    has_lora = any("lora" in name for name in names)
    if has_lora or {"norm.weight", "proj.0.weight"} <= keys or any("perceiver_resampler." in key for key in keys):
        raise LayoutError("adapter.faceid")
    kind = next((kind for kind in KINDS.values() if kind.mark in keys), None)
    if kind is None:
        raise LayoutError("adapter.unknown_projection")
    return kind.name


def file_layers(header: Header) -> tuple[AttentionLayer, ...]:
    """List the layers that a file in the published form has keys and values for; their names are their numbers.

    Raises:
        LayoutError: it has none.
    """
    numbers = {key.split(".")[1] for key in header if key.startswith("ip_adapter.")}
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise LayoutError("adapter.no_numbers")
    layers = []
    for index in sorted(int(number) for number in numbers):
        key = f"ip_adapter.{index}.to_k_ip.weight"
        layers.append(AttentionLayer(index, str(index), size(header, key, 0), size(header, key, 1)))
    return tuple(layers)


def _not_an_adapter(header: Header) -> LayoutError:
    """Return the error for a file without an image projection, naming what it is instead."""
    sorts = [sort for sort, begins in _OTHER_SORTS.items() if any(key.startswith(begins) for key in header)]
    if any(".lora" in key or "_lora" in key for key in header):
        sorts = [Message("content.lora")]
    if sorts:
        return LayoutError("adapter.other_sort", sort=sorts[0])
    return LayoutError("adapter.no_projection")


def _canonical(key: str) -> str:
    while wrapper := next((wrapper for wrapper in _WRAPPERS if key.startswith(wrapper)), None):
        key = key.removeprefix(wrapper)
    for old, new in _RENAMED.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _number_processors(processors: Mapping[str, T]) -> dict[str, T]:
    """Rename `unet.<processor>.to_k_ip.weight` to `ip_adapter.<n>.to_k_ip.weight`."""
    matches = [(key, match) for key in processors if (match := _PROCESSOR_KEY.fullmatch(key))]
    numbers = numbered({match["name"] for _, match in matches})
    return {f"ip_adapter.{numbers[match['name']]}.{match['key']}": processors[key] for key, match in matches}
