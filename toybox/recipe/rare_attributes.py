"""Stage: make the text states of rare attributes, which a UNet would ignore, distinct enough to be learned.

Words that rarely distinguish captions, those for poses and mouths, leave contrastive training with states much like
those of fill words. A UNet that has learned to attend elsewhere ignores them for good, because what is not attended to
gets no gradient. But every cross-attention attends to the end of the text, which has the most room. Here the states
from the end token on learn to carry a separate direction for each such word, and all states before it stay unchanged.
The UNet learns the directions' meaning in the later stages.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPTextModel

from toybox import world
from toybox.recipe.cached import Captions
from toybox.recipe.data import Split, ToyData
from toybox.recipe.images import log_figures
from toybox.recipe.settings import Recipe
from toybox.recipe.towers import load_text_encoder
from toybox.recipe.training import Figures, mixed_precision, pick_device, train_module

RARE = ("pose", "mouth")
"""Attributes whose words rarely distinguish captions."""
LENGTH = 0.8
"""Length of a direction, in mean lengths of the empty text's states, all of which but the first are end tokens'."""
MEASURED = 256
"""Held-out captions used to measure what has been learned."""


def train_rare_attributes(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train `text_encoder` further and rewrite it; one that has been through this stage stays unchanged."""
    if (folder / "done" / "rare_attributes").exists():
        return
    encoder = load_text_encoder(folder).requires_grad_(True).train()
    targets = DirectionTargets(recipe, data, folder, "train")
    tried = DirectionTargets(recipe, heldout, folder, "heldout")

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (recipe.rare_attributes.batch_size,), generator=generator)
        wording = torch.randint(targets.ids.shape[1], (len(rows),), generator=generator)
        return targets.error(encoder, rows, wording), {}

    def measure() -> None:
        rows = torch.arange(min(MEASURED, len(heldout)))
        with torch.no_grad():
            missed = tried.error(encoder, rows, torch.zeros_like(rows)) / tried.power(rows)
        log_figures(folder, "rare_attributes", {"missed": round(float(missed), 4)})

    train_module(
        "rare_attributes", module=encoder, loss=loss, settings=recipe.rare_attributes, folder=folder, sample=measure
    )
    encoder.save_pretrained(folder / "text_encoder")


class DirectionTargets:
    """The target states of a split's captions; `ids` are their token ids, (N, captions, tokens)."""

    def __init__(self, recipe: Recipe, data: ToyData, folder: Path, split: Split) -> None:
        self._captions, self._device = Captions(data, folder, split), pick_device()
        self.ids = torch.cat([self._captions.ids, self._captions.scene_ids[:, None]], dim=1)
        self._said = mentioned_words(data)
        self._directions = self._length() * orthogonal(self._said.shape[-1], recipe.text_hidden, seed=recipe.seed)

    def error(self, encoder: CLIPTextModel, rows: torch.Tensor, wording: torch.Tensor) -> torch.Tensor:
        """Return the mean squared distance of `encoder`'s states from their targets."""
        ids = self.ids[rows, wording]
        with torch.no_grad():
            target = self._captions.hidden_states(ids) + self._added(rows, wording)
        with mixed_precision():
            states = encoder(ids.to(self._device)).last_hidden_state
        return (states - target).square().mean()

    def power(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean square of what is to be added to the states of the canonical captions."""
        return self._added(rows, torch.zeros_like(rows)).square().mean()

    def _added(self, rows: torch.Tensor, wording: torch.Tensor) -> torch.Tensor:
        """Return what is to be added, (B, tokens, text_hidden), zero before the end of each caption."""
        ended = self.ids[rows, wording].eq(self._captions.tokenizer.eos_token_id)
        directions = self._said[rows, wording].float() @ self._directions
        return (ended[..., None] * directions[:, None]).to(self._device)

    @torch.no_grad()
    def _length(self) -> float:
        states = self._captions.hidden_states(self._captions.empty[None])
        return LENGTH * float(states.norm(dim=-1).mean())


def mentioned_words(data: ToyData) -> torch.Tensor:
    """Return which rare words are true and mentioned, 0 or 1: (N, captions per picture plus scene caption, words)."""
    shape = (len(data), len(data.captions[0]) + 1, sum(len(world.ATTRIBUTES[name]) for name in RARE))
    said = torch.zeros(shape, dtype=torch.int8)
    first = 0
    for name in RARE:
        column = list(world.ATTRIBUTES).index(name)
        for row, label in enumerate(data.labels[:, column].tolist()):
            texts = (*data.captions[row], data.scene_captions[row])
            word = world.ATTRIBUTES[name][label]
            said[row, :, first + label] = torch.tensor([world.says(text, name, word) for text in texts])
        first += len(world.ATTRIBUTES[name])
    return said


def orthogonal(count: int, size: int, *, seed: int) -> torch.Tensor:
    """Return `count` orthonormal directions in `size` dimensions."""
    drawn = torch.randn(size, count, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(drawn)[0].T
