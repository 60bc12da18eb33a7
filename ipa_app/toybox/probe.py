"""Stage: a network that reads attributes and joints off pictures, so that what the model draws can be counted.

It is trained on renders alone, is independent of the model's own towers, and is not part of the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ipa_app.toybox import sheets, world
from ipa_app.toybox.dataset import ToyData
from ipa_app.toybox.fit import Figures, fit, mixed_precision, pick_device
from ipa_app.toybox.loss_weights import BODY, FACE
from ipa_app.toybox.settings import Recipe
from ipa_app.toybox.tensors import at_hand, normal, pixels

CHANNELS = (24, 48, 96, 128)
CLOSE_CHANNELS = (32, 64, 128)
CLOSE_LOOKS = {"face": FACE, "body": BODY}
"""What is looked at closely, and the joints whose middle it lies about."""
CLOSE_SHARE = 0.5
"""Side of the square that is looked at closely, as a share of the picture's."""
JITTER = 0.02
"""Deviation, in picture widths, of where training looks closely from where the joints are."""
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
    """A small convolutional network that finds the joints, and reads the attributes with a closer look about some.

    A face is a few pixels of a picture: looked at where it is, it is the same few pixels in every picture.
    """

    side: torch.Tensor

    def __init__(self, side: int) -> None:
        """`side`: of the pictures it learns on, in pixels."""
        super().__init__()
        self.register_buffer("side", torch.tensor(side))
        self.features = _tower(CHANNELS)
        self.close = nn.ModuleDict({name: _tower(CLOSE_CHANNELS) for name in CLOSE_LOOKS})
        # Where something is matters (a hat or a scarf), so the last grid is read whole and not averaged away.
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
        channels = CHANNELS[-1] + len(CLOSE_LOOKS) * CLOSE_CHANNELS[-1]
        self.hidden = nn.Sequential(nn.Linear(16 * channels, 256), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(values)) for name, values in world.ATTRIBUTES.items()})
        self.joints = nn.Sequential(
            nn.Conv2d(CHANNELS[-1], 48, 1), nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64 * 48, 256), nn.SiLU()
        )
        self.keypoints = nn.Linear(256, 18 * 2)

    def forward(self, batch: torch.Tensor, keypoints: torch.Tensor | None = None) -> Reading:
        """Read pictures (B, 3, H, W) in [-1, 1].

        Args:
            batch: the pictures.
            keypoints: (B, 18, 2) where to look closely, in [0, 1]; where the joints are read by default.
        """
        features = self.features(batch)
        read = self.keypoints(self.joints(features)).view(-1, 18, 2).float() + 0.5
        about = read.detach() if keypoints is None else keypoints
        parts = [features, *(self.close[name](_square(batch, about[:, list(of)])) for name, of in CLOSE_LOOKS.items())]
        hidden = self.hidden(torch.cat([self.pool(part) for part in parts], dim=1))
        return Reading({name: head(hidden) for name, head in self.heads.items()}, read)


class _Block(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016, "Identity mappings")."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = (nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        other = (nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        self.layers = nn.Sequential(*half, *other)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch + self.layers(batch)


def _tower(channels: tuple[int, ...]) -> nn.Sequential:
    """Halve the sides once per number of channels."""
    steps = zip((3, *channels), channels, strict=False)
    layers = [(nn.Conv2d(before, after, 3, stride=2, padding=1), _Block(after)) for before, after in steps]
    return nn.Sequential(*(part for pair in layers for part in pair), nn.GroupNorm(8, channels[-1]), nn.SiLU())


def _square(batch: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The squares of pictures (B, 3, H, W) about the middle of points (B, N, 2); edges go on outside."""
    middle = 2 * points.mean(dim=1) - 1  # affine_grid measures from -1 to 1
    zoom = CLOSE_SHARE * torch.eye(2).expand(len(batch), 2, 2).to(middle)
    size = [round(side * CLOSE_SHARE) for side in batch.shape[-2:]]
    grid = F.affine_grid(torch.cat([zoom, middle[:, :, None]], dim=2), [*batch.shape[:2], *size], align_corners=False)
    return F.grid_sample(batch, grid, padding_mode="border", align_corners=False)


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
    probe = Probe(recipe.size).to(device, memory_format=torch.channels_last)
    labels, keypoints = torch.from_numpy(data.labels), torch.from_numpy(data.keypoints)
    images = at_hand(data.images, device)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (recipe.probe.batch_size,), generator=generator)
        batch = pixels(images, rows, device)
        batch = batch + NOISE * normal(batch.shape, generator, device)
        target, joints = labels[rows].to(device), keypoints[rows].to(device)
        about = joints + JITTER * torch.randn(len(rows), 1, 2, generator=generator).to(device)
        with mixed_precision():
            reading = probe(batch, about)
        losses = [F.cross_entropy(reading.logits[name], target[:, i]) for i, name in enumerate(world.ATTRIBUTES)]
        offset = F.mse_loss(reading.keypoints, joints)
        return torch.stack(losses).mean() + KEYPOINT_WEIGHT * offset, {"offset": offset.detach()}

    def note() -> None:
        sheets.note(folder, "probe", accuracy(probe, heldout))

    fit("probe", module=probe, loss=loss, settings=recipe.probe, folder=folder, sheet=note)
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
    probe = Probe(side=0).to(pick_device())  # the file tells the side
    probe.load_state_dict(torch.load(path, weights_only=True, map_location=pick_device()))
    return probe.eval()
