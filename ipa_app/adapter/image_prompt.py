"""An image prompt is data: precomputed keys and values per layer, and how strongly they count.

`ImagePrompt` is the prompt of one picture, computed once per picture and adapter and never changed.
`ImagePromptBatch` is what one pipeline call carries: the prompts of all its rows, stacked.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ipa_app.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class KeyValue:
    """Keys and values of one layer, each (tokens, hidden)."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ImagePrompt:
    """The keys and values of one picture (or of several, their tokens joined) for every cross-attention layer.

    Attributes:
        cond: keys and values by layer name.
        uncond: the same for the unconditional side of classifier-free guidance; None where there is none.
        scale: how strongly it counts: one number, or numbers by layer name or block (`up_blocks.1`), of which
            the longest matching name applies; layers that no name matches are left out.
        start: when it begins to count, as a fraction of the denoising steps, in [0, 1].
        end: when it stops counting, as a fraction of the steps, in [start, 1].
        mask: where in the picture it counts: (height, width) in [0, 1], of any size; None for everywhere.
    """

    cond: Mapping[str, KeyValue]
    uncond: Mapping[str, KeyValue] | None = None
    scale: float | Mapping[str, float] = 1.0
    start: float = 0.0
    end: float = 1.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the scale and the range.

        Raises:
            UserError: a scale is not finite, or the range is not within 0 to 1.
        """
        scales = self.scale.values() if isinstance(self.scale, Mapping) else (self.scale,)
        if not all(math.isfinite(scale) for scale in scales):
            raise UserError("adapter.infinite_scale")
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise UserError("adapter.wrong_range", start=self.start, end=self.end)

    @classmethod
    def concat(cls, prompts: Sequence[ImagePrompt], *, weights: Sequence[float] | None = None) -> ImagePrompt:
        """Join several references: the layers attend to all their tokens together, in one softmax.

        Args:
            prompts: at least one, made by the same adapter. Their scale, range and mask are not kept.
            weights: a factor on the values of each, 1 where not given.
        """
        weights = [1.0] * len(prompts) if weights is None else weights
        sides = [prompt.uncond for prompt in prompts]
        uncond = [side for side in sides if side is not None]
        return cls(
            cond=_concat([prompt.cond for prompt in prompts], weights),
            uncond=_concat(uncond, weights) if len(uncond) == len(prompts) else None,
        )

    def with_scale(self, scale: float | Mapping[str, float]) -> ImagePrompt:
        """Return the same prompt with another scale; no tensor is copied."""
        return replace(self, scale=scale)

    def against(self, negative: ImagePrompt) -> ImagePrompt:
        """Return the same prompt with another picture in place of "no picture"; no tensor is copied.

        Guidance then leads away from that picture: `eps = eps(c_neg, i_neg) + g * (eps(c, i) - eps(c_neg, i_neg))`
        with texts c and pictures i, where i_neg otherwise is the zero embedding or the zero image.

        Source: diffusers `ip_adapter_image_embeds`, whose first half is the negative picture's embeds.
        """
        return replace(self, uncond=negative.cond)

    def with_range(self, start: float, end: float) -> ImagePrompt:
        """Return the same prompt, counting from start to end only; no tensor is copied."""
        return replace(self, start=start, end=end)

    def to(self, dtype: torch.dtype, *, device: torch.device | None = None) -> ImagePrompt:
        """Return the same prompt with keys and values in another dtype, all on another device if one is given."""
        uncond = None if self.uncond is None else _cast(self.uncond, dtype, device)
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, cond=_cast(self.cond, dtype, device), uncond=uncond, mask=mask)

    def with_mask(self, mask: Tensor | None) -> ImagePrompt:
        """Return the same prompt, counting only where mask (height, width) is above 0."""
        return replace(self, mask=mask)

    @property
    def num_bytes(self) -> int:
        """Bytes that its keys and values take."""
        return sum(each.nbytes for each in self._tensors)

    @property
    def is_finite(self) -> bool:
        """Whether its keys and values are free of infinities and NaN."""
        return all(bool(torch.isfinite(each).all()) for each in self._tensors)

    @property
    def _tensors(self) -> list[Tensor]:
        sides = [*self.cond.values(), *(self.uncond or {}).values()]
        return [each for side in sides for each in (side.key, side.value)]

    def scale_at(self, layer: str) -> float:
        """Return the scale for one layer, by its name."""
        if not isinstance(self.scale, Mapping):
            return self.scale
        matches = [name for name in self.scale if layer == name or layer.startswith(f"{name}.")]
        return self.scale[max(matches, key=len)] if matches else 0.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ImageTerm:
    """Image terms of one layer that are computed together: one term each for some rows of the batch.

    Attributes:
        rows: (terms,) int64, each row at most once, so that adding the terms is deterministic on a GPU too.
        key: (terms, tokens, hidden).
        value: (terms, tokens, hidden), already multiplied by each term's scale.
        steps: the denoising steps in which they count.
        mask: (terms, 1, height, width) on the latent grid, or None.
    """

    rows: Tensor
    key: Tensor
    value: Tensor
    steps: range
    mask: Tensor | None = None

    def of_rows(self, rows: Tensor) -> ImageTerm | None:
        """Return the terms of some rows, renumbered for a batch of these rows alone; None if there are none."""
        kept, places = torch.where(self.rows[:, None] == rows.to(self.rows)[None])
        if not len(kept):
            return None
        mask = None if self.mask is None else self.mask[kept]
        return replace(self, rows=places, key=self.key[kept], value=self.value[kept], mask=mask)

    def mask_for(self, sequence_length: int) -> Tensor:
        """Reduce the mask to a layer's own grid: (terms, sequence_length, 1).

        Raises:
            ValueError: there is none, or the layer's length belongs to no grid of this latent size.
        """
        if self.mask is None:
            raise ValueError("These terms have no mask.")
        return masks_of_layer(self.mask, sequence_length)


class ImagePromptBatch:
    """The image prompts of all rows of one pipeline call, as its UNet sees them.

    Belongs to one call. `at_step` needs calling only if a prompt has a range.
    """

    def __init__(self, terms: Mapping[str, Sequence[ImageTerm]], *, num_rows: int, step: int = 0) -> None:
        """Hold terms by layer name; see `stack`."""
        self._terms = terms
        self._num_rows = num_rows
        self.at_step(step)

    @classmethod
    def stack(
        cls,
        rows: Sequence[Sequence[ImagePrompt]],
        *,
        guidance: bool,
        steps: int,
        latent_size: tuple[int, int] | None = None,
    ) -> ImagePromptBatch:
        """Stack the prompts of the pictures of one call.

        Args:
            rows: for each picture its prompts, perhaps none; the terms of several are added.
            guidance: whether the call uses classifier-free guidance, so that the UNet sees
                `[unconditional rows..., conditional rows...]`, as diffusers' pipelines stack them.
            steps: denoising steps of the call.
            latent_size: (height, width) of the latents; needed where a prompt has a mask.

        Raises:
            ValueError: prompts of different base models; guidance with a prompt that has no unconditional
                side; a mask without latent_size.
        """
        entries = _entries(rows, guidance=guidance)
        layers = {frozenset(entry.tensors) for entry in entries}
        if len(layers) > 1:
            raise ValueError("Image prompts of different base models cannot go into one call.")
        terms = {
            layer: _terms_of_layer(entries, layer=layer, steps=steps, latent_size=latent_size)
            for layer in (entries[0].tensors if entries else ())
        }
        return cls(terms, num_rows=len(rows) * (2 if guidance else 1))

    def at_step(self, step: int) -> None:
        """Set which denoising step (0 for the first) comes next."""
        self._step = step
        # Selected here, not in `terms`: a compiled UNet then sees no step number and is the same for all steps.
        self._at_step = {
            layer: tuple(term for term in terms if step in term.steps) for layer, terms in self._terms.items()
        }

    def terms(self, layer: str) -> Sequence[ImageTerm]:
        """Return the terms that count in one layer at the current step."""
        return self._at_step.get(layer, ())

    def tensors(self) -> dict[str, tuple[tuple[Tensor | None, ...], ...]]:
        """Return all tensors a UNet reads at the current step: by layer, each term's rows, key, value and mask."""
        return {
            layer: tuple((term.rows, term.key, term.value, term.mask) for term in terms)
            for layer, terms in self._at_step.items()
        }

    def of_rows(self, rows: Tensor) -> ImagePromptBatch:
        """Return the prompts of some of the rows, at the current step, for a call with these rows alone.

        Args:
            rows: (rows,) int64, each once.
        """
        terms = {
            layer: [some for term in terms if (some := term.of_rows(rows))] for layer, terms in self._at_step.items()
        }
        return ImagePromptBatch(terms, num_rows=len(rows), step=self._step)

    def check_rows(self, num_rows: int) -> None:
        """Check that the UNet's batch has the number of rows that this was stacked for.

        Raises:
            ValueError: it has not.
        """
        check_rows(num_rows, stacked_for=self._num_rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """One side (conditional or not) of one prompt, in one row."""

    row: int
    prompt: ImagePrompt
    tensors: Mapping[str, KeyValue]


def _entries(rows: Sequence[Sequence[ImagePrompt]], *, guidance: bool) -> list[_Entry]:
    first_cond = len(rows) if guidance else 0
    entries = []
    for row, prompts in enumerate(rows):
        for prompt in prompts:
            entries.append(_Entry(first_cond + row, prompt, prompt.cond))
            if guidance:
                if prompt.uncond is None:
                    raise ValueError("Guidance needs the unconditional side of every image prompt.")
                entries.append(_Entry(row, prompt, prompt.uncond))
    return entries


def _terms_of_layer(
    entries: Sequence[_Entry], *, layer: str, steps: int, latent_size: tuple[int, int] | None
) -> list[ImageTerm]:
    """Group the entries that count in a layer so that each group is one dense attention, without padding.

    The entries of a group have the same number of tokens and the same steps, and all have a mask or none has. A row's
    second entry of the same sort goes to another group, so that no row occurs twice in one.
    """
    groups: dict[tuple[object, ...], list[_Entry]] = defaultdict(list)
    seen: Counter[tuple[object, ...]] = Counter()
    for entry in entries:
        prompt = entry.prompt
        if prompt.scale_at(layer) == 0:
            continue
        first, last = round(prompt.start * steps), round(prompt.end * steps)
        sort = (len(entry.tensors[layer].key), first, last, prompt.mask is None)
        groups[(sort, seen[entry.row, sort])].append(entry)
        seen[entry.row, sort] += 1
    return [_stack_group(group, layer=layer, steps=steps, latent_size=latent_size) for group in groups.values()]


def _stack_group(group: Sequence[_Entry], *, layer: str, steps: int, latent_size: tuple[int, int] | None) -> ImageTerm:
    key = torch.stack([entry.tensors[layer].key for entry in group])
    value = torch.stack([entry.tensors[layer].value for entry in group])
    # scale * (softmax(Q K^T) V) = softmax(Q K^T) (scale * V): scaled once per call instead of once per step.
    scales = torch.tensor([entry.prompt.scale_at(layer) for entry in group], dtype=torch.float32, device=value.device)
    prompt = group[0].prompt
    return ImageTerm(
        rows=torch.tensor([entry.row for entry in group], device=key.device),
        key=key,
        value=(value * scales[:, None, None]).to(value.dtype),
        steps=range(round(prompt.start * steps), round(prompt.end * steps)),
        mask=_stack_masks(group, latent_size),
    )


def _stack_masks(group: Sequence[_Entry], latent_size: tuple[int, int] | None) -> Tensor | None:
    """Resize a group's masks (all entries have one, or none has) to the latent grid: (terms, 1, height, width)."""
    masks = [entry.prompt.mask for entry in group if entry.prompt.mask is not None]
    if not masks:
        return None
    if latent_size is None:
        raise ValueError("An image prompt with a mask needs the size of the latents.")
    return torch.cat([resize_masks(mask[None, None].float(), *latent_size) for mask in masks])


def masks_of_layer(masks: Tensor, sequence_length: int) -> Tensor:
    """Reduce masks (n, masks, height, width) on the latent grid to a layer's own: (n, sequence_length, masks).

    Raises:
        ValueError: the layer's length belongs to no grid of this latent size.
    """
    height, width = masks.shape[-2:]
    while height * width > sequence_length:
        # Downsampling convolutions (kernel 3, stride 2, padding 1) round up.
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != sequence_length:
        raise ValueError(f"{sequence_length} positions are no halving of a {tuple(masks.shape[-2:])} latent.")
    return resize_masks(masks, height, width).flatten(2).transpose(1, 2)


def resize_masks(masks: Tensor, height: int, width: int) -> Tensor:
    """Average masks (n, masks, h, w) over the cells of another grid: the share of each cell that they cover."""
    return F.interpolate(masks, size=(height, width), mode="area")


def check_rows(num_rows: int, *, stacked_for: int) -> None:
    """Check that the UNet's batch has the number of rows that prompts were stacked for.

    Raises:
        ValueError: it has not.
    """
    if num_rows != stacked_for:
        raise ValueError(
            f"The prompts were stacked for {stacked_for} rows but the UNet got {num_rows}: "
            "guidance must be True exactly where the pipeline's guidance_scale is above 1."
        )


def _cast(side: Mapping[str, KeyValue], dtype: torch.dtype, device: torch.device | None) -> dict[str, KeyValue]:
    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(device=device, dtype=dtype)

    return {layer: KeyValue(cast(pair.key), cast(pair.value)) for layer, pair in side.items()}


def _concat(sides: Sequence[Mapping[str, KeyValue]], weights: Sequence[float]) -> dict[str, KeyValue]:
    return {
        layer: KeyValue(
            torch.cat([side[layer].key for side in sides]),
            torch.cat([side[layer].value * weight for side, weight in zip(sides, weights, strict=True)]),
        )
        for layer in sides[0]
    }
