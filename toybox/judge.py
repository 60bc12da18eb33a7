"""The judge, a network that reads attributes and joints from pictures, to score what the model draws.

It is independent of the model's own towers and not part of the bundle. `bench/judge` holds the one behind the figures
of the model card; `toybox/recipe/judge.py` trains it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from toybox import world

FOLD = 4
"""Side of the pixel squares that are folded into channels, which keeps convolutions few and wide."""
FAR_CHANNELS, NEAR_CHANNELS = (32, 64, 128), (48, 96, 160)
POOLED_CHANNELS, JOINT_CHANNELS = 64, 16
POOL, JOINT_GRID = 4, 8
"""Sides of feature grids, which are read whole and not averaged, as position matters (a hat or a scarf)."""
HIDDEN = 256


@dataclass(frozen=True)
class CloseLook:
    """A square of the picture that is examined closely.

    Attributes:
        joints: indices, in OpenPose order, of the joints around whose mean it is centred.
        share: its side, as a share of the picture's.
        resolution: pixels sampled per pixel of the square, each way.
    """

    joints: tuple[int, ...]
    share: float
    resolution: float


CLOSE_LOOKS = {
    "head": CloseLook(joints=(0, 16, 17), share=0.5625, resolution=0.9),
    "body": CloseLook(joints=(1, 8, 11), share=0.5, resolution=0.625),
}
"""From hats to chins, where a mouth is a few pixels wide; from scarves to trousers, where patterns are larger."""
FAR_RESOLUTION = 0.375
"""Resolution for the whole picture, from which pose and place are read."""
PCK_THRESHOLD = 0.1
"""A joint is correct within this share of the figure's height, here the vertical extent of its joints."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True)
class Reading:
    """What the judge reads in pictures.

    Attributes:
        logits: attribute to (B, words).
        keypoints: (B, 18, 2) in [0, 1], OpenPose order.
    """

    logits: dict[str, torch.Tensor]
    keypoints: torch.Tensor


class Judge(nn.Module):
    """A small convolutional network that finds the joints, and reads the attributes with closer looks around some.

    A face is only a few pixels of a picture; cropped where it is, it is at the same pixels in every picture. The whole
    picture is seen at a lower resolution.
    """

    def __init__(self, side: int) -> None:
        """Create a judge for pictures of `side` pixels."""
        super().__init__()
        self.side = side
        self.whole = _Tower(FAR_CHANNELS)
        self.close = nn.ModuleDict({name: _Tower(NEAR_CHANNELS) for name in CLOSE_LOOKS})
        channels = (1 + len(CLOSE_LOOKS)) * POOLED_CHANNELS
        self.hidden = nn.Sequential(nn.Linear(POOL**2 * channels, HIDDEN), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(HIDDEN, len(values)) for name, values in world.ATTRIBUTES.items()})
        self.joints = nn.Sequential(
            nn.Conv2d(FAR_CHANNELS[-1], JOINT_CHANNELS, 1),
            nn.AdaptiveAvgPool2d(JOINT_GRID),
            nn.Flatten(),
            nn.Linear(JOINT_GRID**2 * JOINT_CHANNELS, HIDDEN),
            nn.SiLU(),
        )
        self.keypoints = nn.Linear(HIDDEN, 18 * 2)

    def forward(
        self, batch: torch.Tensor, keypoints: torch.Tensor | None = None, zoom: torch.Tensor | None = None
    ) -> Reading:
        """Read pictures (B, 3, side, side) in [-1, 1].

        Args:
            batch: the pictures.
            keypoints: (B, 18, 2) in [0, 1], where to look closely; by default the joints it reads.
            zoom: (B,) factors on the sides of the close looks.
        """
        far = self.whole(F.interpolate(batch, size=(_folds(batch.shape[-1] * FAR_RESOLUTION),) * 2, mode="area"))
        read = self.keypoints(self.joints(far)).view(-1, 18, 2).float() + 0.5
        about = read.detach() if keypoints is None else keypoints
        near = self.look_closely(batch, about, about.new_ones(len(batch)) if zoom is None else zoom)
        hidden = self.hidden(torch.cat([self.whole.pooled(far), *near.values()], dim=1))
        return Reading({name: head(hidden) for name, head in self.heads.items()}, read)

    def look_closely(self, batch: torch.Tensor, keypoints: torch.Tensor, zoom: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the features of the squares of `CLOSE_LOOKS`, (B, POOL² POOLED_CHANNELS) each; see `forward`."""
        return {
            name: self.close[name].pooled(self.close[name](_square(batch, keypoints, look, zoom)))
            for name, look in CLOSE_LOOKS.items()
        }

    def statistics(self, batch: torch.Tensor) -> torch.Tensor:
        """Return a picture's style statistics: mean and standard deviation over it of the head tower's channels.

        Args:
            batch: (B, 3, side, side) in [-1, 1], processed whole at full size.

        Returns:
            (B, 2 NEAR_CHANNELS[-1]).
        """
        features = self.close["head"](batch)
        return torch.cat([features.mean(dim=(2, 3)), features.std(dim=(2, 3))], dim=1)


class _Tower(nn.Module):
    """Folds squares of pixels into channels, then halves the sides once per further number of channels."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        steps = zip((3 * FOLD**2, *channels), channels, strict=False)
        layers = [
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2 if level else 1, padding=1), _Block(after))
            for level, (before, after) in enumerate(steps)
        ]
        self.levels = nn.Sequential(*layers)
        self.pool = nn.Sequential(
            nn.GroupNorm(8, channels[-1]),
            nn.SiLU(),
            nn.Conv2d(channels[-1], POOLED_CHANNELS, 1),
            nn.AdaptiveAvgPool2d(POOL),
            nn.Flatten(),
        )

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Map pictures (B, 3, H, W) to features (B, channels[-1], h, w)."""
        folded = F.pixel_unshuffle(batch, FOLD)
        return self.levels(folded.contiguous(memory_format=torch.channels_last))

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """Pool `forward`'s features to (B, POOL² POOLED_CHANNELS)."""
        return self.pool(features)


class _Block(nn.Module):
    """Two convolutions with a residual connection (He et al. 2016, "Identity mappings")."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = (nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        other = (nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        self.layers = nn.Sequential(*half, *other)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch + self.layers(batch)


def _folds(side: float) -> int:
    """Return the nearest side that can be folded."""
    return FOLD * round(side / FOLD)


def _square(batch: torch.Tensor, keypoints: torch.Tensor, look: CloseLook, zoom: torch.Tensor) -> torch.Tensor:
    """Crop squares of pictures (B, 3, H, W) around the mean of a look's joints, repeating edge pixels outside."""
    middle = 2 * keypoints[:, list(look.joints)].mean(dim=1) - 1  # affine_grid measures from -1 to 1
    scale = look.share * zoom[:, None, None] * torch.eye(2).to(middle)
    side = _folds(batch.shape[-1] * look.share * look.resolution)
    where = torch.cat([scale, middle[:, :, None]], dim=2)
    grid = F.affine_grid(where, [*batch.shape[:2], side, side], align_corners=False)
    return F.grid_sample(batch, grid, padding_mode="border", align_corners=False)


def right(reading: Reading, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return which attributes of which pictures the judge reads as labelled.

    Args:
        reading: of B pictures.
        labels: (B, attributes) in the order of `world.ATTRIBUTES`.

    Returns:
        Attribute to (B,) bool.
    """
    return {
        name: reading.logits[name].argmax(dim=1) == labels[:, column] for column, name in enumerate(world.ATTRIBUTES)
    }


def joints_right(reading: Reading, keypoints: torch.Tensor) -> torch.Tensor:
    """Return (B, 18) bool: which joints are correct to within `PCK_THRESHOLD` (Yang & Ramanan 2013).

    Args:
        reading: of B pictures.
        keypoints: (B, 18, 2) where the joints should be, in [0, 1].
    """
    height = keypoints[..., 1].amax(dim=1) - keypoints[..., 1].amin(dim=1)
    return (reading.keypoints - keypoints).norm(dim=-1) <= PCK_THRESHOLD * height[:, None]


def load_judge(folder: Path) -> Judge:
    """Load a trained judge in single precision.

    Args:
        folder: written by the stage, or `bench/judge`.
    """
    judge = Judge(**json.loads((folder / CONFIG).read_text("utf-8")))
    judge.load_state_dict(load_file(folder / WEIGHTS))
    return judge.to("cuda" if torch.cuda.is_available() else "cpu").eval()
