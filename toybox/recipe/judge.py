"""Stage: the judge, trained on drawings alone, slightly degraded so that it reads no finer detail than people see."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F

from toybox import world
from toybox.judge import CONFIG, WEIGHTS, Judge, joints_right, right
from toybox.recipe.augmentation import lightly_degraded
from toybox.recipe.data import ToyData
from toybox.recipe.images import log_figures, on_device, pixels
from toybox.recipe.settings import Recipe
from toybox.recipe.training import Figures, mixed_precision, pick_device, save_halves, train_module

SHIFT, ZOOM = 0.02, 0.1
"""Random offset of the close looks in training (deviation in picture widths), and their random zoom."""

KEYPOINT_WEIGHT = 100.0
"""Weight of the joints' squared error (in picture widths) relative to the cross-entropy."""


def train_judge(recipe: Recipe, data: ToyData, heldout: ToyData, folder: Path) -> None:
    """Train the judge and write `folder/judge`; its own accuracy on held-out drawings goes to figures.jsonl."""
    device = pick_device()
    judge = Judge(recipe.size).to(device, memory_format=torch.channels_last)
    labels, keypoints = torch.from_numpy(data.labels), torch.from_numpy(data.keypoints)
    images = on_device(data.images, device)

    def loss(generator: torch.Generator, _fraction: float) -> tuple[torch.Tensor, Figures]:
        rows = torch.randint(len(data), (recipe.judge.batch_size,), generator=generator)
        batch = lightly_degraded(pixels(images, rows, device), generator)
        target, joints = labels[rows].to(device), keypoints[rows].to(device)
        about = joints + SHIFT * torch.randn(len(rows), 1, 2, generator=generator).to(device)
        zoom = 1 + ZOOM * (2 * torch.rand(len(rows), generator=generator).to(device) - 1)
        with mixed_precision():
            reading = judge(batch, about, zoom)
        losses = [F.cross_entropy(reading.logits[name], target[:, i]) for i, name in enumerate(world.ATTRIBUTES)]
        offset = F.mse_loss(reading.keypoints, joints)
        return torch.stack(losses).mean() + KEYPOINT_WEIGHT * offset, {"offset": offset.detach()}

    def measure() -> None:
        log_figures(folder, "judge", accuracy(judge, heldout))

    train_module("judge", module=judge, loss=loss, settings=recipe.judge, folder=folder, sample=measure)
    save_judge(judge, folder / "judge")


@torch.no_grad()
def accuracy(judge: Judge, data: ToyData) -> dict[str, float]:
    """Return the share of drawings whose attribute is read correctly, by attribute, and that of joints ("pck")."""
    device = next(judge.parameters()).device
    parts = []
    for rows in torch.arange(len(data)).split(64):
        reading = judge(pixels(data.images, rows, device))
        hits = right(reading, torch.from_numpy(data.labels)[rows].to(device))
        hits["pck"] = joints_right(reading, torch.from_numpy(data.keypoints[rows.numpy()]).to(device)).float().mean(1)
        parts.append(hits)
    return {name: round(float(torch.cat([part[name] for part in parts]).float().mean()), 4) for name in parts[0]}


def save_judge(judge: Judge, folder: Path) -> None:
    """Write a judge in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"side": judge.side}, indent=1) + "\n", "utf-8")
    save_halves(judge.state_dict(), folder / WEIGHTS)
