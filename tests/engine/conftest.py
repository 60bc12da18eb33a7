from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.queue import Limits
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager

TIMEOUT_S = 200

Generate = Callable[..., GenerateResult]


def noise_picture(seed: int = 0, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Return a detailed picture that is the same every time."""
    values = bytes((index * (seed * 2 + 7919) + index * index * 31) % 251 for index in range(size[0] * size[1] * 3))
    return Image.frombytes("RGB", size, values)


def reference(seed: int = 0, weight: float = 1.0) -> Reference:
    return Reference(image=noise_picture(seed), weight=weight)


def pixels(result: GenerateResult) -> list[bytes]:
    return [image.tobytes() for image in result.images]


def furthest(one: Image.Image, other: Image.Image) -> int:
    """Return the largest difference between two pictures, in levels of 255."""
    return int(np.asarray(ImageChops.difference(one, other)).max())


def drawing(job: Job) -> Job:
    """Return the job as soon as it is being drawn."""
    next(event for event in job.events() if isinstance(event, Progress) and event.phase == "denoising")
    return job


@pytest.fixture(scope="session")
def manager(tiny_bundle_dir: Path) -> ModelManager:
    manager = ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    # Tests load the same model into plain diffusers, and concurrent loads corrupt each other: see models/loading.py.
    manager.get("toybox", TIMEOUT_S)
    return manager


@pytest.fixture(scope="session")
def engine(manager: ModelManager) -> Iterator[Engine]:
    engine = Engine(manager, limits=Limits(total=6))
    yield engine
    engine.close()


@pytest.fixture
def own_engine(manager: ModelManager) -> Iterator[Engine]:
    """Yield an engine of the test's own, with the default limits."""
    engine = Engine(manager)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def generate(engine: Engine) -> Generate:
    """Submit a request with these fields and return its result."""
    return lambda **fields: engine.submit(GenerateRequest(**fields)).result(TIMEOUT_S)
