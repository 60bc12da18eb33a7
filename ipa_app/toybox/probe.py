"""Stage: a classifier that reads attributes off pictures, so that what the model draws can be counted.

It is trained on renders alone, is independent of the model's own towers, and is not part of the bundle.
"""

from __future__ import annotations

from pathlib import Path

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


class AttributeProbe(nn.Module):
    """A small convolutional network with one linear head per attribute of the world."""

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

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits by attribute, (B, words) each, for pictures (B, 3, H, W) in [-1, 1]."""
        hidden = self.hidden(self.pool(self.features(batch)))
        return {name: head(hidden) for name, head in self.heads.items()}


@torch.no_grad()
def right(probe: AttributeProbe, batch: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Which attributes of which pictures the probe reads as labelled.

    Args:
        probe: trained.
        batch: (B, 3, H, W) in [-1, 1].
        labels: (B, attributes) in the order of ``world.ATTRIBUTES``.

    Returns:
        Attribute to (B,) bool.
    """
    logits = probe(batch)
    return {name: logits[name].argmax(dim=1) == labels[:, column] for column, name in enumerate(world.ATTRIBUTES)}


def train_probe(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the probe and write ``folder/probe.pt``; its own accuracy on held-out renders goes to figures.jsonl."""
    device = pick_device()
    probe = AttributeProbe().to(device, memory_format=torch.channels_last)
    labels = torch.from_numpy(data.labels)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, dict[str, float]]:
        rows = torch.randint(len(data), (recipe.probe.batch_size,), generator=generator)
        batch = pixels(data.images, rows, device)
        batch = batch + NOISE * torch.randn(batch.shape, generator=generator).to(device)
        logits = probe(batch)
        target = labels[rows].to(device)
        losses = [F.cross_entropy(logits[name], target[:, column]) for column, name in enumerate(world.ATTRIBUTES)]
        return torch.stack(losses).mean(), {}

    def note() -> None:
        sheets.note(folder, "probe", accuracy(probe, heldout))

    fit("probe", module=probe, loss=loss, settings=recipe.probe, folder=folder, on_checkpoint=note)
    torch.save(probe.state_dict(), folder / "probe.pt")


def accuracy(probe: AttributeProbe, data: ToyData) -> dict[str, float]:
    """Share of renders whose attribute is read right, by attribute."""
    device = next(probe.parameters()).device
    parts = [
        right(probe, pixels(data.images, rows, device), torch.from_numpy(data.labels)[rows].to(device))
        for rows in torch.arange(len(data)).split(64)
    ]
    return {name: round(float(torch.cat([part[name] for part in parts]).float().mean()), 4) for name in parts[0]}


def load_probe(folder: Path) -> AttributeProbe:
    """The trained probe."""
    probe = AttributeProbe().to(pick_device())
    probe.load_state_dict(torch.load(folder / "probe.pt", weights_only=True, map_location=pick_device()))
    return probe.eval()
