"""The published layout of adapter weights: telling kinds apart, and bringing variants to one form.

One form is a flat dict of ``image_proj.<key>`` and ``ip_adapter.<n>.to_k_ip.weight`` / ``to_v_ip``. Kinds and
sizes are read off keys and shapes, never off a file's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ipa_app.adapter.ip_adapter import ImageProjection, IPAdapter, build_projection
from ipa_app.adapter.kinds import DEFAULT_NUM_TOKENS, RESAMPLER_DIM_HEAD, AdapterKind
from ipa_app.adapter.layers import AttentionLayer
from ipa_app.errors import UserError

Tensors = Mapping[str, Tensor]

_WRAPPERS = ("module.", "state_dict.", "model.")
_RENAMED = {"image_proj_model.": "image_proj.", "adapter_modules.": "ip_adapter."}
_PROCESSOR_KEY = re.compile(
    r"unet\.(?P<name>(?P<block>down_blocks|up_blocks|mid_block)\..*attn2\.processor)\.(?P<key>.+)"
)
_BLOCK_ORDER = ("down_blocks", "up_blocks", "mid_block")


def flatten(content: object) -> dict[str, Tensor]:
    """Bring what a file holds to the flat published form; what belongs to no adapter is left out.

    Accepts nested dicts, wrappers such as ``state_dict`` or ``module.``, the training-time prefixes
    ``image_proj_model.`` and ``adapter_modules.``, and whole training checkpoints in which the keys and values
    stand under the UNet's processors instead (what accelerate keeps of two names for one tensor).
    """
    tensors: dict[str, Tensor] = {}
    processors: dict[str, Tensor] = {}
    for key, tensor in _walk(content):
        name = _canonical(key)
        if name.startswith(("image_proj.", "ip_adapter.")):
            tensors[name] = tensor
        elif _PROCESSOR_KEY.fullmatch(name) and "_ip." in name:
            processors[name] = tensor
    if not any(name.startswith("ip_adapter.") for name in tensors):
        tensors |= _number_processors(processors)
    return tensors


def adapter_kind(tensors: Tensors) -> AdapterKind:
    """Tell the kind by the keys.

    Raises:
        UserError: it is a FaceID adapter, or none that is known.
    """
    keys = {key.removeprefix("image_proj.") for key in tensors if key.startswith("image_proj.")}
    is_face_id = any("lora" in key for key in tensors) or any(key.startswith("perceiver_resampler.") for key in keys)
    if is_face_id or {"norm.weight", "proj.0.weight"} <= keys:
        raise UserError(
            "is a FaceID adapter, which works from a face-recognition network and not from CLIP; "
            "use a base, plus or full-face adapter."
        )
    if "proj.weight" in keys:
        return "base"
    if "proj.3.weight" in keys:
        return "full"
    if "latents" in keys:
        return "plus"
    raise UserError(
        "is not an IP-Adapter that is known here: its image projection is neither base, plus nor full-face."
        if keys
        else "is not an IP-Adapter file: it has no image projection (image_proj)."
    )


def file_layers(tensors: Tensors) -> tuple[AttentionLayer, ...]:
    """List the layers that the file has keys and values for; they are named by their numbers.

    Raises:
        UserError: it has none.
    """
    numbers = {key.split(".")[1] for key in tensors if key.startswith("ip_adapter.")}
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise UserError("is not an IP-Adapter file: it has no numbered keys and values (ip_adapter.1.to_k_ip.weight).")
    layers = []
    for index in sorted(int(number) for number in numbers):
        key = f"ip_adapter.{index}.to_k_ip.weight"
        layers.append(AttentionLayer(index, str(index), _size(tensors, key, 0), _size(tensors, key, 1)))
    return tuple(layers)


def projection_for(tensors: Tensors, kind: AdapterKind) -> ImageProjection:
    """Make a projection of the sizes that the tensors have, with weights not yet filled in.

    Raises:
        UserError: a tensor that tells a size is missing.
    """
    cross_attention_dim = file_layers(tensors)[0].cross_attention_dim
    depth, heads, dim = 0, 1, RESAMPLER_DIM_HEAD
    num_tokens = DEFAULT_NUM_TOKENS[kind]
    if kind == "base":
        # The reference takes 4 tokens for granted; the shapes tell it for other numbers too.
        num_tokens = max(1, _size(tensors, "image_proj.proj.weight", 0) // cross_attention_dim)
    if kind == "plus":
        num_tokens = _size(tensors, "image_proj.latents", 1)
        dim = _size(tensors, "image_proj.latents", 2)
        heads = max(1, _size(tensors, "image_proj.layers.0.0.to_q.weight", 0) // RESAMPLER_DIM_HEAD)
        depth = len({key.split(".")[2] for key in tensors if key.startswith("image_proj.layers.")})
    return build_projection(
        kind,
        clip_dim=_size(tensors, _CLIP_KEYS[kind], 1),
        cross_attention_dim=cross_attention_dim,
        num_tokens=num_tokens,
        depth=depth,
        heads=heads,
        dim=dim,
    )


def check_complete(tensors: Tensors, kind: AdapterKind) -> None:
    """Compare all keys and shapes with those of an adapter of this kind and these sizes.

    Raises:
        UserError: one is missing, too many, of another shape or no floating-point number.
    """
    with torch.device("meta"):
        expected = IPAdapter(projection_for(tensors, kind), file_layers(tensors)).state_dict()
    for key, tensor in expected.items():
        if key not in tensors:
            raise UserError(f"is incomplete: {key} is missing.")
        if tensors[key].shape != tensor.shape:
            raise UserError(
                f"is damaged: {key} is {_shape(tensors[key])} but must be {_shape(tensor)} beside the others."
            )
        if not tensors[key].is_floating_point():
            raise UserError(
                f"cannot be read: {key} is {tensors[key].dtype}, not floating-point; use an unquantised file."
            )
    if surplus := sorted(tensors.keys() - expected.keys()):
        raise UserError(f"is not an IP-Adapter that is known here: {surplus[0]} belongs to no {kind} adapter.")


_CLIP_KEYS: dict[AdapterKind, str] = {
    "base": "image_proj.proj.weight",
    "plus": "image_proj.proj_in.weight",
    "full": "image_proj.proj.0.weight",
}


def _walk(content: object, prefix: str = "") -> list[tuple[str, Tensor]]:
    """List the tensors of nested dicts with their dotted paths."""
    if isinstance(content, Tensor):
        return [(prefix.removesuffix("."), content)]
    if isinstance(content, Mapping):
        return [pair for key, value in content.items() for pair in _walk(value, f"{prefix}{key}.")]
    return []


def _canonical(key: str) -> str:
    while wrapper := next((wrapper for wrapper in _WRAPPERS if key.startswith(wrapper)), None):
        key = key.removeprefix(wrapper)
    for old, new in _RENAMED.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _number_processors(processors: Tensors) -> dict[str, Tensor]:
    """Rename ``unet.<processor>.to_k_ip.weight`` to its number: down, up, mid; the n-th one is 2n + 1."""

    def order(name: str) -> tuple[int, Sequence[int]]:
        return _BLOCK_ORDER.index(name.split(".")[0]), [int(number) for number in re.findall(r"\d+", name)]

    matches = [(key, match) for key in processors if (match := _PROCESSOR_KEY.fullmatch(key))]
    names = sorted({match["name"] for _, match in matches}, key=order)
    index = {name: 2 * position + 1 for position, name in enumerate(names)}
    return {f"ip_adapter.{index[match['name']]}.{match['key']}": processors[key] for key, match in matches}


def _size(tensors: Tensors, key: str, axis: int) -> int:
    if key not in tensors:
        raise UserError(f"is incomplete: {key} is missing.")
    shape = tensors[key].shape
    if axis >= len(shape) or shape[axis] == 0:
        raise UserError(f"is damaged: {key} is {_shape(tensors[key])}.")
    return shape[axis]


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(size) for size in tensor.shape) or "a single number"
