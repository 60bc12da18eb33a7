"""Guidance in a part of the steps only: in the others a picture's unconditional side is not computed.

Without guidance a step is `eps = eps(c)`, and the UNet runs on half as many rows. Guidance in early steps reduces
variety, and in late steps does little (Kynkäänniemi et al. 2024, arXiv 2404.07724). diffusers' pipelines have one
guidance for all steps and pictures of a call; here the networks that they call compute only the needed rows, and the
pipelines themselves are unchanged.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

_RESIDUALS = ("down_block_additional_residuals", "mid_block_additional_residual")


class GuidedSteps:
    """Which rows of a call are computed at its current step. Belongs to one call, like an `ImagePromptBatch`."""

    def __init__(self, guided: Sequence[range], *, steps: int) -> None:
        """Start at the first step.

        Args:
            guided: for each picture of the call the steps that have guidance. The UNet's rows are the pictures'
                unconditional sides, then their conditional ones, as diffusers' pipelines stack them.
            steps: of the call.
        """
        self._guided = guided
        self._is_everywhere = all(step in each for each in guided for step in range(steps))
        self._conditions: dict[tuple[int, ...], Tensor] = {}
        self.at_step(0)

    def at_step(self, step: int) -> None:
        """Set which denoising step (0 for the first) comes next."""
        count = len(self._guided)
        guided = [row for row, steps in enumerate(self._guided) if step in steps]
        needed = [*guided, *range(count, 2 * count)]
        self._is_whole = len(guided) == count
        self._needed = torch.tensor(needed)
        # A side that is not computed is replaced by the other one: `u + g * (c - u)` is then exactly c.
        taken = [row if row in needed else row + count for row in range(2 * count)]
        self._places = torch.tensor([needed.index(row) for row in taken])

    def applied_to(self, pipeline: DiffusionPipeline) -> DiffusionPipeline:
        """Return a copy of a pipeline whose networks compute only the needed rows.

        If all rows are needed in all steps, it is the pipeline itself.
        """
        if self._is_everywhere:
            return pipeline
        limited: Any = copy.copy(pipeline)
        limited.unet = in_place_of(limited.unet, self._unet)
        if getattr(limited, "controlnet", None) is not None:
            limited.controlnet = in_place_of(limited.controlnet, self._controlnet)
        return limited

    def _unet(
        self,
        unet: nn.Module,
        sample: Tensor,
        timestep: Tensor,
        *,
        encoder_hidden_states: Tensor,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        **others: Any,
    ) -> tuple[Tensor]:
        """Predict the noise of all rows from the needed ones."""
        others |= {name: self._residuals(others[name]) for name in _RESIDUALS if name in others}
        if cross_attention_kwargs and not self._is_whole:
            cross_attention_kwargs = {name: each.of_rows(self._needed) for name, each in cross_attention_kwargs.items()}
        (noise,) = unet(
            self._rows(sample),
            timestep,
            encoder_hidden_states=self._rows(encoder_hidden_states),
            cross_attention_kwargs=cross_attention_kwargs,
            added_cond_kwargs=self._rows_of_each(added_cond_kwargs),
            **others,
        )
        return (noise if self._is_whole else noise.index_select(0, self._places.to(noise.device)),)

    def _controlnet(self, controlnet: nn.Module, sample: Tensor, timestep: Tensor, **others: Any) -> Any:
        """Compute the ControlNet's residuals for the needed rows.

        In guess mode, which those with pooled residuals always have, the pipeline passes the conditional rows only,
        which are needed in every step, and adds zeros for the unconditional ones itself.
        """
        if others["guess_mode"]:
            return controlnet(sample, timestep, **others)
        others |= {
            "encoder_hidden_states": self._rows(others["encoder_hidden_states"]),
            "controlnet_cond": self._condition(others["controlnet_cond"]),
            "added_cond_kwargs": self._rows_of_each(others.get("added_cond_kwargs")),
        }
        return controlnet(self._rows(sample), timestep, **others)

    def _condition(self, values: Tensor) -> Tensor:
        """Select the needed rows of a tensor that is the same in every step; the same rows give the same tensor."""
        if self._is_whole:
            return values
        needed = tuple(self._needed.tolist())
        if needed not in self._conditions:
            self._conditions[needed] = self._rows(values)
        return self._conditions[needed]

    def _rows(self, values: Tensor) -> Tensor:
        return values if self._is_whole else values.index_select(0, self._needed.to(values.device))

    def _residuals(self, values: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Select the needed rows of a ControlNet's residuals, unless `_controlnet` has computed no others."""
        if isinstance(values, Tensor):
            return self._residual(values)
        return [self._residual(each) for each in values]

    def _residual(self, values: Tensor) -> Tensor:
        return values if len(values) == len(self._needed) else self._rows(values)

    def _rows_of_each(self, values: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
        return None if values is None else {name: self._rows(each) for name, each in values.items()}


def in_place_of(network: Any, forward: Callable[..., Any]) -> Any:
    """Return a stand-in that a pipeline can use as a network, with the same weights and settings but another forward.

    The forward is passed the network itself, to call it with whatever hooks it has.
    """
    stand_in = copy.copy(network)
    stand_in._forward_hooks, stand_in._forward_pre_hooks = OrderedDict(), OrderedDict()
    stand_in.forward = lambda *arguments, **named: forward(network, *arguments, **named)
    return stand_in
