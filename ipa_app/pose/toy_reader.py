"""Read the pose of a toy character in a picture with a small network that the recipe trains on drawings.

The network knows only toy characters and rejects every other picture. Its weights are in a model's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ipa_app.errors import UserError
from ipa_app.imaging.cropping import cut_window, fitted_size
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.skeleton import KEYPOINTS_PER_PERSON, Person

SIDE = 128
"""Width and height in pixels of the network's input."""
CONFIDENCE = 0.5
"""Least probability for a picture to count as one of a toy character."""

# Pictures are scaled down to this before padding to a square: one of 8 x 1,000,000 pixels would fill the memory.
_LARGEST_SIDE = 1024
# At the second look the joints fill this share of the square, the size that the network has learned best.
_JOINTS_SHARE = 0.55
# Even around a point on the picture's edge, a square of this size contains pixels of the picture.
_LEAST_SIDE = 16.0
# A second look is skipped if its square is not smaller than this share of the first.
_CLOSER = 0.9


@dataclass(frozen=True)
class ToyReading:
    """The network's output for B pictures.

    Attributes:
        keypoints: (B, 18, 2) as fractions 0..1 of width and height, in OpenPose's order.
        heat: (B, 18, h, w), logits of every joint's position; `keypoints` are their means.
        presence: (B,) logits of "this is one toy character, whole and upright".
    """

    keypoints: torch.Tensor
    heat: torch.Tensor
    presence: torch.Tensor


class ToyReader(nn.Module):
    """A small convolutional network: down to cells a quarter of the picture wide, then back up to a map per joint.

    A joint is the mean position of its map (Sun et al. 2018, "Integral human pose regression"), so that joints move
    with the figure, wherever in the picture it stands.
    """

    def __init__(self) -> None:
        super().__init__()
        # From first to last, the cells of the features are 1/64 to 1/4 of the picture's side wide.
        self.fine = nn.Sequential(_layer(3, 24, stride=2), _layer(24, 48, stride=2), _layer(48, 96, stride=2))
        self.coarse = _layer(96, 128, stride=2)
        self.whole = nn.Sequential(_layer(128, 128, stride=2), _layer(128, 128))
        self.to_coarse = _layer(128, 96)
        self.to_fine = _layer(96, 64)
        self.heat = nn.Conv2d(64, KEYPOINTS_PER_PERSON, 1)
        self.presence = nn.Sequential(nn.Linear(2 * 128, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, batch: torch.Tensor) -> ToyReading:
        """Read pictures (B, 3, SIDE, SIDE) in [-1, 1]."""
        fine = self.fine(batch)
        coarse = self.coarse(fine)
        whole = self.whole(coarse)
        presence = self.presence(torch.cat([whole.mean(dim=(2, 3)), whole.amax(dim=(2, 3))], dim=1))
        up = self.to_coarse(coarse + F.interpolate(whole, scale_factor=2.0))
        heat = self.heat(self.to_fine(fine + F.interpolate(up, scale_factor=2.0)))
        return ToyReading(keypoints=_means(heat), heat=heat, presence=presence[:, 0])

    def read(self, picture: Image.Image) -> Person | None:
        """Read the pose of the toy character in a picture of any shape (mode "RGB").

        Returns:
            Its 18 points, as fractions of the picture's width and height; None unless a single toy character is in
            the picture, upright and whole.
        """
        small = picture
        if max(picture.size) > _LARGEST_SIDE:
            frame = fitted_size(picture.size, (_LARGEST_SIDE, _LARGEST_SIDE))
            small = picture.resize(frame, Image.Resampling.BOX, reducing_gap=2.0)
        points = self._look(small, _square_about(np.array(small.size) / 2, side=max(small.size)))
        if points is None:
            return None
        # A second, closer look reads a small figure as precisely as a large one.
        low, high = points.min(axis=0), points.max(axis=0)
        side = max(_LEAST_SIDE, float((high - low).max()) / _JOINTS_SHARE)
        if side < _CLOSER * max(small.size):
            closer = self._look(small, _square_about((low + high) / 2, side=side))
            points = points if closer is None else closer
        return tuple(Keypoint(float(x), float(y)) for x, y in points / np.array(small.size))

    @torch.inference_mode()
    def _look(self, picture: Image.Image, window: tuple[int, int, int, int]) -> np.ndarray | None:
        """Read one square (left, top, right, bottom) of a picture: (18, 2) in its pixels, none outside it.

        None if no toy is seen. Beyond the picture's edges, the outermost pixels are repeated.
        """
        seen = cut_window(picture, window).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        batch = torch.from_numpy(np.array(seen, dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        reading = self(batch)
        if torch.sigmoid(reading.presence[0]) < CONFIDENCE:
            return None
        points = reading.keypoints[0].numpy() * (window[2] - window[0]) + np.array(window[:2])
        return np.clip(points, 0, np.array(picture.size))


def load_toy_reader(file: Path) -> ToyReader:
    """Load a reader for the CPU.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    reader = ToyReader()
    try:
        reader.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError("pose.reader_damaged", folder=file.parent.name, file=file.name) from error
    return reader.requires_grad_(False).eval()


def _layer(before: int, channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, channels, 3, stride=stride, padding=1), nn.GroupNorm(8, channels), nn.SiLU())


def _means(heat: torch.Tensor) -> torch.Tensor:
    """Return the mean position of every map (B, 18, h, w) of logits, as (B, 18, 2) in 0..1: x, then y."""
    shares = heat.flatten(2).softmax(dim=-1).view_as(heat)
    height, width = heat.shape[-2:]
    across = (torch.arange(width, device=heat.device) + 0.5) / width
    down = (torch.arange(height, device=heat.device) + 0.5) / height
    return torch.stack([(shares.sum(dim=2) * across).sum(dim=-1), (shares.sum(dim=3) * down).sum(dim=-1)], dim=-1)


def _square_about(centre: np.ndarray, *, side: float) -> tuple[int, int, int, int]:
    """Return the square (left, top, right, bottom) of whole pixels around a point (x, y); it may exceed the edges."""
    whole = round(side)
    left, top = (round(float(value) - whole / 2) for value in centre)
    return left, top, left + whole, top + whole
