"""Stage: the small network that reads the pose of toy pictures, and rejects pictures without a toy."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.toy_reader import CONFIDENCE, SIDE, ToyReader, ToyReading
from toybox import world
from toybox.judge import Reading, joints_right
from toybox.recipe.augmentation import MISUSES, clouds, degraded, pasted_anywhere, pasted_toys
from toybox.recipe.data import ToyData
from toybox.recipe.denoiser import skeleton_of
from toybox.recipe.images import log_figures, pixels
from toybox.recipe.settings import Recipe
from toybox.recipe.training import Figures, pick_device, save_halves, train_module

FILE = "pose_reader/model.safetensors"
"""Path of the weights in the work folder and in the bundle."""
TOY_SHARE = 0.6
"""Share of a batch that shows a toy character."""
KINDS = ("places", "skeletons", "clouds", *MISUSES)
"""Kinds of the other pictures."""
PLACES = 800
SKELETONS = 200
"""Most empty places, and most skeleton pictures, that are drawn for the other pictures."""
OFFSET_WEIGHT = 20.0
"""Weight of the joints' distance (in picture widths) relative to the two cross-entropies."""
SPOT = 0.045
"""Standard deviation, in picture widths, of a joint's spot on its heat map."""
HELDOUT = 512
"""Most held-out pictures to evaluate on."""


_Batch = tuple[torch.Tensor, torch.Tensor]
"""Pictures, and the keypoints of the first of them, which show a toy character."""


def train_pose_reader(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the reader and write `folder/pose_reader`; its accuracy on held-out subjects goes to figures.jsonl."""
    device = pick_device()
    reader = ToyReader().to(device, memory_format=torch.channels_last)
    batches, tried = _Batches(data, "train", device), _Batches(heldout, "heldout", device)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        pictures, keypoints = batches.draw(recipe.pose_reader.batch_size, generator)
        return _loss(reader(pictures), keypoints)

    def measure() -> None:
        log_figures(folder, "pose_reader", _figures(reader, tried))

    train_module("pose_reader", module=reader, loss=loss, settings=recipe.pose_reader, folder=folder, sample=measure)
    save_halves(reader.state_dict(), folder / FILE)


def _loss(reading: ToyReading, keypoints: torch.Tensor) -> tuple[torch.Tensor, Figures]:
    """Return the loss of a batch's reading; joints count only where there are some."""
    toys = len(keypoints)
    presence = (torch.arange(len(reading.presence), device=keypoints.device) < toys).float()
    seen = F.binary_cross_entropy_with_logits(reading.presence, presence)
    heat = reading.heat[:toys]
    spots = -(_spots(keypoints, heat.shape[-1]) * heat.flatten(2).log_softmax(dim=-1)).sum(dim=-1).mean()
    offset = (reading.keypoints[:toys] - keypoints).norm(dim=-1).mean()
    figures = {"seen": seen.detach(), "spots": spots.detach(), "offset": offset.detach()}
    return seen + spots + OFFSET_WEIGHT * offset, figures


def _spots(keypoints: torch.Tensor, side: int) -> torch.Tensor:
    """Return target maps of joints (B, 18, 2) with `side` x `side` cells: (B, 18, cells), each summing to 1."""
    places = (torch.arange(side, device=keypoints.device) + 0.5) / side
    squares = (keypoints[..., None] - places).square()  # (B, 18, 2, side)
    distances = squares[:, :, 1, :, None] + squares[:, :, 0, None, :]
    return (-distances / (2 * SPOT**2)).flatten(2).softmax(dim=-1)


class _Batches:
    """Draws batches from a split."""

    def __init__(self, data: ToyData, split: str, device: torch.device) -> None:
        self._data, self._device = data, device
        self._keypoints = torch.from_numpy(np.array(data.keypoints))
        rng = random.Random(f"places-{split}")
        places = [world.render_place(world.sample_scene(rng), SIDE) for _ in range(min(PLACES, len(data)))]
        skeletons = [draw_skeleton(skeleton_of(points), (SIDE, SIDE)) for points in data.keypoints[:SKELETONS]]
        self._drawn = {"places": np.stack(places), "skeletons": np.stack(skeletons)}

    def __len__(self) -> int:
        return len(self._data)

    def draw(self, size: int, generator: torch.Generator) -> _Batch:
        """Draw a batch of augmented pictures, TOY_SHARE of them with a toy."""
        toys = round(size * TOY_SHARE)
        shown, keypoints = self.toys(torch.randint(len(self), (toys,), generator=generator), generator)
        kinds = torch.randint(len(KINDS), (size - toys,), generator=generator)
        empty = [self.without(kind, int((kinds == index).sum()), generator) for index, kind in enumerate(KINDS)]
        return torch.cat([shown, *empty]), keypoints

    def plain(self, rows: torch.Tensor) -> _Batch:
        """Return the pictures without augmentation."""
        pictures = pixels(self._data.images, rows, self._device)
        if pictures.shape[-1] != SIDE:
            pictures = F.interpolate(pictures, size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
        return pictures, self._keypoints[rows].to(self._device)

    def toys(self, rows: torch.Tensor, generator: torch.Generator) -> _Batch:
        """Return augmented pictures."""
        canvases = self._canvases(len(rows), generator)
        plain, _ = self.plain(rows)
        pictures, keypoints = pasted_toys(plain, self._keypoints[rows], canvases=canvases, generator=generator)
        return degraded(pictures, generator), keypoints.to(self._device)

    def without(self, kind: str, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw augmented pictures of one of KINDS, half of them pasted into something else."""
        if count == 0:
            return torch.empty(0, 3, SIDE, SIDE, device=self._device)
        if kind in MISUSES:
            rows = torch.randint(len(self), (count,), generator=generator)
            pictures = MISUSES[kind](self.plain(rows)[0], generator)
        elif kind in self._drawn:
            drawn = self._drawn[kind]
            pictures = pixels(drawn, torch.randint(len(drawn), (count,), generator=generator), self._device)
        else:
            pictures = clouds(count, SIDE, generator).to(self._device)
        laid = pasted_anywhere(pictures, canvases=self._canvases(count, generator), generator=generator)
        is_laid = torch.rand(count, 1, 1, 1, generator=generator).to(self._device) < 0.5
        return degraded(torch.where(is_laid, laid, pictures), generator)

    def _canvases(self, count: int, generator: torch.Generator) -> torch.Tensor:
        places = self._drawn["places"]
        drawn = pixels(places, torch.randint(len(places), (count,), generator=generator), self._device)
        is_cloud = torch.rand(count, 1, 1, 1, generator=generator).to(self._device) < 0.6
        return torch.where(is_cloud, clouds(count, SIDE, generator).to(self._device), drawn)


@torch.no_grad()
def _figures(reader: ToyReader, tried: _Batches) -> dict[str, float]:
    """Evaluate the reader on a split: on its pictures, plain and augmented, and on each kind without a toy.

    Returns:
        Share of correct joints ("pck"), of toys detected ("seen"), and of other pictures rejected, by kind and in all.
    """
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[torch.Tensor]] = {}

    def count(name: str, hits: torch.Tensor) -> None:
        found.setdefault(name, []).append(hits.float().flatten().cpu())

    for rows in torch.arange(min(HELDOUT, len(tried))).split(64):
        for name, (pictures, keypoints) in (("", tried.plain(rows)), (" augmented", tried.toys(rows, generator))):
            reading = reader(pictures)
            count("pck" + name, joints_right(Reading({}, reading.keypoints), keypoints))
            count("seen" + name, reading.presence.sigmoid() >= CONFIDENCE)
        for kind in KINDS:
            refused = reader(tried.without(kind, 16, generator)).presence.sigmoid() < CONFIDENCE
            count("refused", refused)
            count(f"refused {kind}", refused)
    return {name: round(float(torch.cat(hits).mean()), 4) for name, hits in found.items()}
