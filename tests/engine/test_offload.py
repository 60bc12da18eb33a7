"""A model whose parts wait for their turn draws what it draws with all of them in place.

Where there is no GPU, the device they move to is the CPU, which shows the order of things but no other memory.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.models.memory import MemoryPlan, default_dtype
from ipa_app.models.state import MemoryUse
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.presets import presets
from tests.devices import DEVICES
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels, reference

ORDERS: list[dict[str, Any]] = [
    {"task": "variation"},
    {"task": "pose", "pose": draw_skeleton(next(iter(presets().values())), (64, 64)), "adapter": "fine"},
    {"task": "inpaint", "image": noise_picture(3, (64, 64)), "mask": noise_picture(4, (64, 64)).convert("L")},
    {"task": "mix", "prompt": "a dog", "references": ()},
    {"task": "variation", "count": 2},
]


def draw_all(folder: Path, device: str) -> list[list[bytes]]:
    """Draw everything, with a ControlNet that is read when it is asked for, as another one comes before it."""
    entry = entry_from_folder(folder, name="toybox")
    controlnets = {"depth": replace(entry.controlnet("pose"), name="depth", kind="depth"), **entry.controlnets}
    engine = Engine(ModelManager({"toybox": replace(entry, controlnets=controlnets)}, device=device))
    try:
        orders = [{"references": (reference(),), "seed": 3, **order} for order in ORDERS]
        return [pixels(engine.submit(GenerateRequest(**order)).result(TIMEOUT_S)) for order in orders]
    finally:
        engine.close()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", ["tiny_bundle_dir", "tiny_sdxl_dir"])
def test_parts_that_wait_draw_the_same(
    family: str, device: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = request.getfixturevalue(family)
    in_place = draw_all(folder, device)
    plan = MemoryPlan(dtype=default_dtype(device, exact=True), offload=True)
    use = MemoryUse(device="cpu", precision="single", needed=10**6, savings=("offload",))
    monkeypatch.setattr("ipa_app.models.loading.plan_memory", lambda *_, **__: (plan, use))
    assert draw_all(folder, device) == in_place
