"""The tensors of an adapter file: which ones each kind has, and their shapes. All of it works without PyTorch.

The networks in `projection` and `resampler` have the same tensors, which a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ipa_app.adapter.header import Header
from ipa_app.adapter.kinds import KINDS, RESAMPLER_DIM_HEAD
from ipa_app.adapter.layers import AttentionLayer
from ipa_app.errors import UserError
from ipa_app.messages import Message

Shapes = Mapping[str, tuple[int, ...]]
"""By the tensors' names."""

MOST_TOKENS = 1024
"""More tokens of one picture than any image encoder has patches would only fill memory."""


class LayoutError(Exception):
    """What is wrong with an adapter file, found in its header, which does not know the file's name."""

    def __init__(self, said: str, /, **values: object) -> None:
        """Hold a message that still lacks the file's name.

        Args:
            said: key of the message, which has a placeholder {file}.
            values: values of its other placeholders.
        """
        super().__init__(said)
        self.key = said
        self.values = values

    def of(self, path: Path) -> UserError:
        """Return it as a `UserError` with the name of its file."""
        return UserError(self.key, file=path.name, **self.values)


@dataclass(frozen=True, kw_only=True)
class ProjectionSizes:
    """The sizes of a projection. The last three are for a Resampler only.

    Attributes:
        clip_dim: width of the image features that it takes.
        cross_attention_dim: width of the tokens that it makes.
        num_tokens: image tokens per picture.
        depth: number of blocks.
        heads: number of attention heads.
        dim: inner width.
    """

    clip_dim: int
    cross_attention_dim: int
    num_tokens: int
    depth: int = 4
    heads: int = 12
    dim: int = 12 * RESAMPLER_DIM_HEAD


def projection_sizes(kind: str, header: Header, *, cross_attention_dim: int) -> ProjectionSizes:
    """Read the sizes of a projection from a file in the published form. All of them follow from the shapes.

    Args:
        kind: the name of its kind.
        header: of the file, in the published form.
        cross_attention_dim: width of the tokens that its keys and values are computed from.

    Raises:
        LayoutError: a tensor that shows one of them is missing.
    """
    sizes = ProjectionSizes(
        clip_dim=size(header, f"image_proj.{KINDS[kind].width_key}", 1),
        cross_attention_dim=cross_attention_dim,
        num_tokens=KINDS[kind].num_tokens,
    )
    if kind == "base":
        # The reference code assumes 4 tokens, but the shapes may differ.
        width = size(header, "image_proj.proj.weight", 0)
        return replace(sizes, num_tokens=max(1, width // cross_attention_dim))
    if kind == "plus":
        return replace(
            sizes,
            num_tokens=size(header, "image_proj.latents", 1),
            dim=size(header, "image_proj.latents", 2),
            heads=max(1, size(header, "image_proj.layers.0.0.to_q.weight", 0) // RESAMPLER_DIM_HEAD),
            depth=len({key.split(".")[2] for key in header if key.startswith("image_proj.layers.")}),
        )
    return sizes


def adapter_shapes(kind: str, sizes: ProjectionSizes, layers: Iterable[AttentionLayer]) -> Shapes:
    """Return the tensors of a whole adapter, in the published form.

    Args:
        kind: the name of its kind.
        sizes: of its projection.
        layers: the layers it has keys and values for.
    """
    projection = {f"image_proj.{key}": shape for key, shape in _PROJECTIONS[kind](sizes).items()}
    keys_values = {
        f"ip_adapter.{layer.index}.{key}.weight": (layer.hidden_size, layer.cross_attention_dim)
        for layer in layers
        for key in ("to_k_ip", "to_v_ip")
    }
    return projection | keys_values


def _base(sizes: ProjectionSizes) -> Shapes:
    width = sizes.cross_attention_dim
    return _linear("proj", sizes.num_tokens * width, sizes.clip_dim) | _norm("norm", width)


def _full(sizes: ProjectionSizes) -> Shapes:
    inner, width = sizes.clip_dim, sizes.cross_attention_dim
    return _linear("proj.0", inner, inner) | _linear("proj.2", width, inner) | _norm("proj.3", width)


def _plus(sizes: ProjectionSizes) -> Shapes:
    dim, inner, width = sizes.dim, sizes.heads * RESAMPLER_DIM_HEAD, sizes.cross_attention_dim
    shapes = {"latents": (1, sizes.num_tokens, dim)} | _linear("proj_in", dim, sizes.clip_dim)
    shapes |= _linear("proj_out", width, dim) | _norm("norm_out", width)
    for block in (f"layers.{number}" for number in range(sizes.depth)):
        shapes |= _norm(f"{block}.0.norm1", dim) | _norm(f"{block}.0.norm2", dim) | _norm(f"{block}.1.0", dim)
        shapes |= {
            f"{block}.0.to_q.weight": (inner, dim),
            f"{block}.0.to_kv.weight": (2 * inner, dim),
            f"{block}.0.to_out.weight": (dim, inner),
            f"{block}.1.1.weight": (4 * dim, dim),
            f"{block}.1.3.weight": (dim, 4 * dim),
        }
    return shapes


_PROJECTIONS: Mapping[str, Callable[[ProjectionSizes], Shapes]] = MappingProxyType(
    {"base": _base, "plus": _plus, "full": _full}
)


def _linear(name: str, out: int, given: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, given), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def size(header: Header, key: str, axis: int) -> int:
    """Return the length of a tensor along an axis.

    Raises:
        LayoutError: the tensor is missing, has no such axis, or is empty along it.
    """
    if key not in header:
        raise LayoutError("adapter.missing_key", key=key)
    shape = header[key].shape
    if axis >= len(shape) or shape[axis] == 0:
        raise LayoutError("adapter.wrong_tensor", key=key, shape=_written(header[key].shape))
    return shape[axis]


def check_complete(header: Header, expected: Shapes, *, kind: str) -> None:
    """Compare all keys and shapes of a file in the published form with those of an adapter of its kind and sizes.

    Raises:
        LayoutError: a tensor is missing, surplus, of another shape or not floating-point.
    """
    for key, shape in expected.items():
        if key not in header:
            raise LayoutError("adapter.missing_key", key=key)
        if header[key].shape != shape:
            raise LayoutError("adapter.wrong_shape", key=key, shape=_written(header[key].shape), wanted=_written(shape))
        if not header[key].is_floating:
            raise LayoutError("adapter.not_floating", key=key, type=header[key].dtype)
    if surplus := sorted(header.keys() - expected.keys()):
        raise LayoutError("adapter.surplus_key", key=surplus[0], kind=kind)


def check_tokens(num_tokens: int) -> None:
    """Check that an adapter's tokens of one picture do not fill memory.

    Raises:
        LayoutError: it makes more tokens than any image encoder has patches.
    """
    if num_tokens > MOST_TOKENS:
        raise LayoutError("adapter.too_many_tokens", tokens=num_tokens, most=MOST_TOKENS)


def _written(shape: tuple[int, ...]) -> str | Message:
    return " x ".join(map(str, shape)) or Message("adapter.single_number")
