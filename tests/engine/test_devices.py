"""A GPU in half precision draws what the processor draws, up to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.devices import DEVICES
from tests.engine.conftest import TIMEOUT_S, Generate, reference
from tests.engine.test_offload import ORDERS

ROUNDING = 6.0
"""Mean error of 255 that half precision may cause; random weights amplify it more than real ones."""


@pytest.fixture(scope="module", params=DEVICES)
def there(request: pytest.FixtureRequest, tiny_bundle_dir: Path) -> Iterator[Engine]:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    engine = Engine(ModelManager({"toybox": entry}, device=request.param), batch_limit=4)
    yield engine
    engine.close()


def distance(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, int) - np.asarray(other, int)).mean())


def drawn(engine: Engine, *orders: dict[str, Any]) -> list[Image.Image]:
    """Draw orders that are queued together."""
    jobs = [engine.submit(GenerateRequest(**{"references": (reference(),), "seed": 3, **order})) for order in orders]
    return [job.result(TIMEOUT_S).images[0] for job in jobs]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order["task"])
def test_every_task_draws_what_the_processor_draws(order: dict[str, Any], there: Engine, generate: Generate) -> None:
    expected = generate(**{"references": (reference(),), "seed": 3, **order}).images[0]
    assert distance(drawn(there, order)[0], expected) <= ROUNDING


def test_a_reference_that_counts_for_nothing_changes_nothing(there: Engine) -> None:
    words = {"task": "mix", "prompt": "a dog"}
    without, silent, heard = (
        drawn(there, {**words, **more})[0] for more in ({"references": ()}, {"scale": 0.0}, {"scale": 1.0})
    )
    assert silent.tobytes() == without.tobytes()
    assert heard.tobytes() != without.tobytes()


def test_different_adapters_and_scales_in_one_batch_draw_what_each_draws_alone(there: Engine) -> None:
    orders: list[dict[str, Any]] = [
        {"task": "variation", "adapter": "base"},
        {"task": "variation", "adapter": "fine", "scale": 0.5},
        {"task": "mix", "prompt": "a dog", "references": (), "seed": 4},
        {"task": "variation", "references": (reference(1), reference(2)), "seed": 5},
    ]
    together = drawn(there, *orders)
    alone = [drawn(there, order)[0] for order in orders]
    assert max(distance(one, other) for one, other in zip(together, alone, strict=True)) <= ROUNDING
    assert distance(alone[0], alone[1]) > ROUNDING


def test_the_same_seed_draws_the_same_bytes_each_time(there: Engine) -> None:
    first, again = (drawn(there, {"task": "variation", "adapter": "fine"})[0] for _ in range(2))
    assert first.tobytes() == again.tobytes()
