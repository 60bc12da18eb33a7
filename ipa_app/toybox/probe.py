"""Stage: a network that reads attributes and joints off pictures, so that what the model draws can be counted.

It is trained on renders alone, is independent of the model's own towers, and is not part of the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn

from ipa_app.toybox import sheets, world
from ipa_app.toybox.dataset import ToyData
from ipa_app.toybox.fit import fit, pick_device
from ipa_app.toybox.settings import Recipe
from ipa_app.toybox.tensors import pixels

CHANNELS = (32, 64, 128, 192)
NOISE = 0.05
"""Deviation of the noise added in training, so that the probe does not read what no person sees."""


KEYPOINT_WEIGHT = 100.0
"""Of the joints' squared error (in picture widths) beside the cross-entropy."""
PCK_THRESHOLD = 0.1
"""A joint is right within this share of the figure's height, here the extent of its joints from top to bottom."""


@dataclass(frozen=True)
class Reading:
    """What the probe reads in pictures.

    Attributes:
        logits: attribute to (B, words).
        keypoints: (B, 18, 2) in [0, 1], OpenPose order.
    """

    logits: dict[str, torch.Tensor]
    keypoints: torch.Tensor


class Probe(nn.Module):
    """A small convolutional network with a head per attribute of the world and one for the joints."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in CHANNELS:
            layers += [nn.Conv2d(before, channels, 3, stride=2, padding=1), nn.GroupNorm(8, channels), nn.SiLU()]
            before = channels
        self.features = nn.Sequential(*layers, nn.Conv2d(before, before, 3, padding=1), nn.SiLU())
        # Where something is matters (a hat or a scarf), so the last grid is read whole and not averaged away.
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(16 * before, 256), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(values)) for name, values in world.ATTRIBUTES.items()})
        self.joints = nn.Sequential(
            nn.Conv2d(before, 48, 1), nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64 * 48, 256), nn.SiLU()
        )
        self.keypoints = nn.Linear(256, 18 * 2)

    def forward(self, batch: torch.Tensor) -> Reading:
        """Read pictures (B, 3, H, W) in [-1, 1]."""
        features = self.features(batch)
        hidden = self.hidden(self.pool(features))
        keypoints = self.keypoints(self.joints(features)).view(-1, 18, 2) + 0.5
        return Reading({name: head(hidden) for name, head in self.heads.items()}, keypoints)


def right(reading: Reading, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Which attributes of which pictures the probe reads as labelled.

    Args:
        reading: of B pictures.
        labels: (B, attributes) in the order of ``world.ATTRIBUTES``.

    Returns:
        Attribute to (B,) bool.
    """
    return {
        name: reading.logits[name].argmax(dim=1) == labels[:, column] for column, name in enumerate(world.ATTRIBUTES)
    }


def joints_right(reading: Reading, keypoints: torch.Tensor) -> torch.Tensor:
    """(B, 18) bool: which joints are where they should be, to within ``PCK_THRESHOLD`` (Yang & Ramanan 2013).

    Args:
        reading: of B pictures.
        keypoints: (B, 18, 2) where the joints should be, in [0, 1].
    """
    height = keypoints[..., 1].amax(dim=1) - keypoints[..., 1].amin(dim=1)
    return (reading.keypoints - keypoints).norm(dim=-1) <= PCK_THRESHOLD * height[:, None]


def train_probe(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the probe and write ``folder/probe.pt``; its own accuracy on held-out renders goes to figures.jsonl."""
    device = pick_device()
    probe = Probe().to(device, memory_format=torch.channels_last)
    labels, keypoints = torch.from_numpy(data.labels), torch.from_numpy(np.array(data.keypoints))

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, dict[str, float]]:
        rows = torch.randint(len(data), (recipe.probe.batch_size,), generator=generator)
        batch = pixels(data.images, rows, device)
        batch = batch + NOISE * torch.randn(batch.shape, generator=generator).to(device)
        reading = probe(batch)
        target = labels[rows].to(device)
        losses = [F.cross_entropy(reading.logits[name], target[:, i]) for i, name in enumerate(world.ATTRIBUTES)]
        offset = F.mse_loss(reading.keypoints, keypoints[rows].to(device))
        return torch.stack(losses).mean() + KEYPOINT_WEIGHT * offset, {"offset": float(offset.detach())}

    def note() -> None:
        sheets.note(folder, "probe", accuracy(probe, heldout))

    fit("probe", module=probe, loss=loss, settings=recipe.probe, folder=folder, on_checkpoint=note)
    torch.save(probe.state_dict(), folder / "probe.pt")


@torch.no_grad()
def accuracy(probe: Probe, data: ToyData) -> dict[str, float]:
    """Share of renders whose attribute is read right, by attribute, and of joints ("pck")."""
    device = next(probe.parameters()).device
    parts = []
    for rows in torch.arange(len(data)).split(64):
        reading = probe(pixels(data.images, rows, device))
        hits = right(reading, torch.from_numpy(data.labels)[rows].to(device))
        hits["pck"] = joints_right(reading, torch.from_numpy(data.keypoints[rows.numpy()]).to(device)).float().mean(1)
        parts.append(hits)
    return {name: round(float(torch.cat([part[name] for part in parts]).float().mean()), 4) for name in parts[0]}


def load_probe(path: Path) -> Probe:
    """The trained probe.

    Args:
        path: of the ``probe.pt`` that the stage has written.
    """
    probe = Probe().to(pick_device())
    probe.load_state_dict(torch.load(path, weights_only=True, map_location=pick_device()))
    return probe.eval()
