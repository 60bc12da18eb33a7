"""The drawn data set of one split, and pictures that are rendered once and cached."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate import PartialState

from ipa_app.runtime import written_whole
from toybox import world
from toybox.recipe.settings import Recipe

logger = logging.getLogger(__name__)

Split = Literal["train", "heldout", "free"]
VIEWS = 2
"""Scenes per subject: picture `2 i` and `2 i + 1` show the same subject."""
FEW = 256
"""Fewer pictures than this are drawn by one process."""


@dataclass(frozen=True)
class ToyData:
    """One split, memory-mapped.

    Attributes:
        images: (N, size, size, 3) uint8 RGB.
        keypoints: (N, 18, 2) float32 in [0, 1], OpenPose order.
        labels: (N, len(world.ATTRIBUTES)) int64, an index into each attribute's words.
        captions: per picture, the canonical caption, then differently worded ones.
        scene_captions: per picture, a caption of pose and place that leaves the subject to a reference picture.
    """

    images: np.ndarray
    keypoints: np.ndarray
    labels: np.ndarray
    captions: list[list[str]]
    scene_captions: list[str]

    def __len__(self) -> int:
        return len(self.images)


def views_of(recipe: Recipe, split: Split, subject: int) -> tuple[world.View, ...]:
    """Return the views of one subject of a split, the same in every run."""
    rng = random.Random(f"{recipe.seed}-{split}-{subject}")
    drawn = world.sample_subject(rng, held_out=split == "heldout")
    return tuple(world.View(drawn, world.sample_scene(rng, is_free=split == "free")) for _ in range(VIEWS))


def view_of(recipe: Recipe, row: int) -> world.View:
    """Return the view of a training picture."""
    subject, view = divmod(row, VIEWS)
    return views_of(recipe, "train", subject)[view]


def load_or_draw(recipe: Recipe, folder: Path, split: Split) -> ToyData:
    """Load a split from `folder`, drawing it first if it is not there yet.

    Args:
        recipe: sizes of the data set.
        folder: where the arrays are; written atomically, so an incomplete split is redrawn.
        split: `heldout` has only subjects that training never sees; in `free`, limbs point anywhere.
    """
    target = folder / split
    with PartialState().main_process_first():
        if not (target / "captions.json").exists():
            target.mkdir(parents=True, exist_ok=True)
            _draw(recipe, target, split)
    return ToyData(
        images=np.load(target / "images.npy", mmap_mode="c"),  # PyTorch takes arrays that can be written
        keypoints=np.load(target / "keypoints.npy"),
        labels=np.load(target / "labels.npy"),
        **json.loads((target / "captions.json").read_text("utf-8")),
    )


def _draw(recipe: Recipe, target: Path, split: Split) -> None:
    subjects = {"train": recipe.subjects, "heldout": recipe.heldout_subjects, "free": recipe.free_subjects}[split]
    count = subjects * VIEWS
    shape = (count, recipe.size, recipe.size, 3)
    images = np.lib.format.open_memmap(target / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    keypoints = np.zeros((count, 18, 2), np.float32)
    labels = np.zeros((count, len(world.ATTRIBUTES)), np.int64)
    captions: list[list[str]] = []
    scene_captions: list[str] = []
    for row, drawn in enumerate(_draw_all(partial(_draw_subject, recipe, split), range(subjects))):
        for offset, (pixels, points, classes, texts, scene_text) in enumerate(drawn):
            index = row * VIEWS + offset
            images[index], keypoints[index], labels[index] = pixels, points, classes
            captions.append(texts)
            scene_captions.append(scene_text)
        if row % 2000 == 0:
            logger.info("%s: %d of %d subjects drawn", split, row, subjects)
    images.flush()
    np.save(target / "keypoints.npy", keypoints)
    np.save(target / "labels.npy", labels)
    # Written last: its presence marks the split as complete.
    texts = {"captions": captions, "scene_captions": scene_captions}
    with written_whole(target / "captions.json") as part:
        part.write_text(json.dumps(texts), "utf-8")


def _draw_subject(
    recipe: Recipe, split: Split, subject: int
) -> list[tuple[np.ndarray, np.ndarray, list[int], list[str], str]]:
    rng = random.Random(f"{recipe.seed}-captions-{split}-{subject}")
    drawn = []
    for view in views_of(recipe, split, subject):
        texts = [world.full_caption(view), *(world.caption(view, rng) for _ in range(recipe.captions_per_picture))]
        pixels = np.asarray(world.render(view, recipe.size))
        points = np.asarray(world.keypoints(view), np.float32)
        drawn.append((pixels, points, list(world.labels(view).values()), texts, world.scene_caption(view, rng)))
    return drawn


def _draw_all(draw: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Draw every item, in order, on all cores; a few items in this process, which is faster than starting others."""
    if len(items) < FEW:
        yield from map(draw, items)
        return
    # spawn, not fork: the parent may already run torch's threads, which do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap(draw, items, chunksize=16)


def cached_renders(path: Path, draw: Callable[[Any], np.ndarray], items: Sequence[Any], *, size: int) -> np.ndarray:
    """Draw a picture for each item, or open those of an earlier run.

    Args:
        path: of the array; written atomically, so an incomplete one is redrawn.
        draw: returns an item's picture, (size, size, 3) uint8; must be picklable.
        items: the items to draw.
        size: side of the pictures in pixels.

    Returns:
        (items, size, size, 3) uint8, memory-mapped.
    """
    with PartialState().main_process_first():
        if not path.exists():
            logger.info("drawing %d pictures: %s", len(items), path.name)
            shape = (len(items), size, size, 3)
            with written_whole(path) as part:
                pictures = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
                for row, picture in enumerate(_draw_all(draw, items)):
                    pictures[row] = picture
                pictures.flush()
    return np.load(path, mmap_mode="c")  # PyTorch takes arrays that can be written
