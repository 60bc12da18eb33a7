"""An offloaded model draws the same as one that is on the device as a whole.

Without a GPU the device is the CPU, which shows the order of the moves but has no memory of its own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.models.memory import MemoryPlan, default_dtype
from ipa_app.models.offloading import Offloading
from ipa_app.models.state import MemoryUse
from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.presets import presets
from tests.devices import DEVICES
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels, reference
from tests.tiny_models import tiny_fast_way
from tests.waiting import until

ORDERS: list[dict[str, Any]] = [
    {"task": "variation"},
    {"task": "pose", "pose": draw_skeleton(next(iter(presets().values())), (64, 64)), "adapter": "fine"},
    {"task": "inpaint", "image": noise_picture(3, (64, 64)), "mask": noise_picture(4, (64, 64)).convert("L")},
    {"task": "mix", "prompt": "a dog", "references": ()},
    {"task": "variation", "count": 2},
]


def draw_all(folder: Path, device: str) -> list[list[bytes]]:
    """Draw all orders, with a ControlNet that is read on demand because another one comes first."""
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
    let_parts_wait(monkeypatch, device)
    assert draw_all(folder, device) == in_place


def let_parts_wait(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    plan = MemoryPlan(dtype=default_dtype(device, exact=True), offload=True)
    use = MemoryUse(device="cpu", precision="single", needed=10**6, savings=("offload",))
    monkeypatch.setattr("ipa_app.models.loading.plan_memory", lambda *_, **__: (plan, use))


class Device:
    """A record of the modules on a simulated device: they move there by an index, and back to the CPU without one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here: dict[int, str] = {}
        self.together: list[set[str]] = []
        move = torch.nn.Module.to

        def to(module: torch.nn.Module, *args: Any, **named: Any) -> torch.nn.Module:
            place = torch._C._nn._parse_to(*args, **named)[0]
            if place is not None and place.index is None:
                self.here.pop(id(module), None)
            elif place is not None:
                self.here[id(module)] = type(module).__name__
                self.together.append(set(self.here.values()))
            return move(module, *args, **named)

        monkeypatch.setattr(torch.nn.Module, "to", to)


@pytest.mark.parametrize("family", ["tiny_bundle_dir", "tiny_sdxl_dir"])
def test_parts_are_on_the_device_for_their_turn_alone(
    family: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = request.getfixturevalue(family)
    let_parts_wait(monkeypatch, "cpu")
    entry = entry_from_folder(folder, name="toybox")
    fast = [{"speed": "fast", "steps": 9}] if family == "tiny_bundle_dir" else []
    entry = replace(entry, fast=tiny_fast_way(folder) if fast else None)
    device, engine = Device(monkeypatch), Engine(ModelManager({"toybox": entry}, device="cpu"))
    try:
        for number, order in enumerate([*ORDERS, *fast] * 2):
            fields = {"task": "variation", "references": (reference(number),), "seed": 3, **order}
            job = engine.submit(GenerateRequest(**fields))
            with suppress(Cancelled):
                for event in job.events():
                    if number > len(ORDERS) and isinstance(event, Progress) and event.phase == "denoising":
                        job.cancel()
            # A job ends a moment before its drawing does.
            until(lambda: not device.here, f"something stays after {order}")
    finally:
        engine.close()
    assert {frozenset(each) for each in device.together if len(each) > 1} == {
        frozenset({"UNet2DConditionModel", "ControlNetModel"})
    }


def test_a_part_for_which_there_was_no_room_is_not_taken_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    move, part, offloading = torch.nn.Module.to, torch.nn.Linear(2, 2), Offloading(torch.device("cpu"))

    def to(module: torch.nn.Module, place: torch.device) -> torch.nn.Module:
        if place.index is not None:
            raise torch.OutOfMemoryError
        return move(module, place)

    with monkeypatch.context() as short:
        short.setattr(torch.nn.Module, "to", to)
        with pytest.raises(torch.OutOfMemoryError):
            offloading.begin("vae", part)
    assert offloading.on_device == []
    assert offloading.begin("vae", part)
    assert offloading.on_device == [part]
