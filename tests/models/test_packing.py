"""Packed weights compute the same numbers as PyTorch's own layers, whatever happens to the layers meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.models.memory import processor_has_bfloat16
from ipa_app.models.packing import PackedConv2d, PackedLinear, pack_weights
from tests.engine.conftest import TIMEOUT_S

pytestmark = pytest.mark.skipif(not processor_has_bfloat16(), reason="needs a processor that calculates in bfloat16")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def layers() -> nn.Sequential:
    torch.manual_seed(0)
    both = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.Flatten(2), nn.Linear(64, 96, bias=False))
    return both.to(torch.bfloat16).to(memory_format=torch.channels_last).eval()


@pytest.fixture
def packed(layers: Any) -> nn.Sequential:
    packed = copy.deepcopy(layers)
    pack_weights(packed)
    return packed


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)


def test_the_bundled_unet_predicts_the_same_at_every_size_and_batch() -> None:
    unet: Any = UNet2DConditionModel.from_pretrained(
        BUNDLED, subfolder="unet", dtype=torch.bfloat16, local_files_only=True
    )
    unet = unet.to(memory_format=torch.channels_last).eval()
    packed = copy.deepcopy(unet)
    pack_weights(packed)
    assert {PackedConv2d, PackedLinear} <= {type(each) for each in packed.modules()}
    generator = torch.Generator().manual_seed(0)
    for rows, (height, width) in product((1, 2, 5), ((32, 32), (16, 24), (48, 40))):
        latents = torch.randn(rows, 4, height, width, generator=generator).to(torch.bfloat16)
        prompts = torch.randn(rows, 77, unet.config.cross_attention_dim, generator=generator).to(torch.bfloat16)
        one, other = (each(latents, 500, prompts, return_dict=False)[0] for each in (unet, packed))
        assert torch.equal(one, other)


def test_the_app_draws_with_packed_weights_where_the_processor_calculates_in_bfloat16() -> None:
    manager = ModelManager({"toybox": entry_from_folder(BUNDLED, name="toybox")}, "cpu", exact=False)
    model = manager.get("toybox", TIMEOUT_S)
    posed = model.controlnets.pipeline(next(iter(model.entry.controlnets.values())))
    for network in (posed.unet, posed.controlnet, model.fast.read()[0]):
        assert not any(type(each) in (nn.Conv2d, nn.Linear) for each in network.modules())


def test_weights_that_are_changed_in_place_replaced_or_loaded_count(layers: Any, packed: Any, x: torch.Tensor) -> None:
    assert torch.equal(packed(x), layers(x))
    for both in (layers, packed):
        both[0].weight.mul_(2)
        both[2].weight.data = both[2].weight.data + 1
    assert torch.equal(packed(x), layers(x))
    layers.load_state_dict({name: each * -1 for name, each in layers.state_dict().items()})
    packed.load_state_dict(layers.state_dict())
    assert torch.equal(packed(x), layers(x))


def test_a_copy_has_weights_of_its_own(layers: Any, packed: Any, x: torch.Tensor) -> None:
    before = packed(x)
    changed = copy.deepcopy(packed)
    changed[0].weight.mul_(2)
    layers[0].weight.mul_(2)
    assert torch.equal(changed(x), layers(x))
    assert torch.equal(packed(x), before)


def test_gradients_are_those_of_pytorchs_own_layers(layers: Any, packed: Any, x: torch.Tensor) -> None:
    packed(x)
    with torch.enable_grad():
        for both in (layers, packed):
            both(x).sum().backward()
    assert all(map(torch.equal, *([each.grad for each in both.parameters()] for both in (layers, packed))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_in_other_precisions_pytorchs_own_layers_are_left(layers: Any, dtype: torch.dtype) -> None:
    layers.to(dtype)
    pack_weights(layers)
    assert {type(each) for each in layers} == {nn.Conv2d, nn.Flatten, nn.Linear}


def test_what_is_packed_and_goes_to_another_precision_calculates_in_that(
    layers: Any, packed: Any, x: torch.Tensor
) -> None:
    packed(x)
    assert torch.equal(packed.float()(x.float()), layers.float()(x.float()))


def test_a_large_network_is_not_held_twice(layers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipa_app.models.packing._MOST_BYTES", 1000)
    pack_weights(layers)
    assert type(layers[0]) is nn.Conv2d


def test_what_is_compiled_is_calculated_the_same(packed: Any, x: torch.Tensor) -> None:
    before = packed(x)
    assert torch.equal(torch.compile(packed, backend="eager", fullgraph=True)(x), before)
