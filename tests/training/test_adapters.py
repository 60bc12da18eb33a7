"""The adapter that a run starts from, and its size."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from ipa_app.adapter.files import read_adapter, save_adapter
from ipa_app.adapter.resampler import Resampler
from ipa_app.adapter.shapes import MOST_TOKENS
from ipa_app.errors import UserError
from ipa_app.training.adapters import ResamplerShape, new_adapter, resampler_shape
from ipa_app.training.components import Components, load_components
from ipa_app.training.config import MOST_LAYERS, TrainConfig
from tests.tiny_models import random_adapter_tensors, tiny_unet

MakeConfig = Callable[..., TrainConfig]


def plus(make_config: MakeConfig, **changes: object) -> TrainConfig:
    return make_config(**({"adapter": "plus", "resampler_heads": 0} | changes))


def with_text_width(base: Components, width: int) -> Components:
    with torch.device("meta"):
        unet = tiny_unet(cross_attention_dim=width)
    return replace(base, unet=unet, fine_adapter=None)


def test_a_pretrained_file_is_where_training_starts(base: Components, make_config: MakeConfig, tmp_path: Path) -> None:
    adapter = new_adapter(make_config(seed=5), base)
    save_adapter(adapter, tmp_path / "published.safetensors")
    started = new_adapter(make_config(pretrained=tmp_path / "published.safetensors"), base).state_dict()
    assert all(torch.equal(started[name], tensor) for name, tensor in adapter.state_dict().items())
    with pytest.raises(UserError, match="--adapter base"):
        new_adapter(plus(make_config, pretrained=tmp_path / "published.safetensors"), base)


def test_a_pretrained_file_of_another_size_than_asked_for_is_refused(
    base: Components, make_config: MakeConfig, tmp_path: Path
) -> None:
    save_file(random_adapter_tensors(tiny_unet(), kind="plus"), tmp_path / "plus.safetensors")
    start = {"pretrained": tmp_path / "plus.safetensors", "resampler_depth": 4}
    new_adapter(plus(make_config, **start), base)
    for name, has in (("resampler_heads", 1), ("resampler_depth", 4)):
        with pytest.raises(UserError, match=f"has {name} {has}, not 12; leave that setting out"):
            new_adapter(plus(make_config, **start | {name: 12}), base)


def test_an_adapter_of_as_many_tokens_and_layers_as_may_be_can_be_read(
    base: Components, make_config: MakeConfig, tmp_path: Path
) -> None:
    largest = plus(make_config, num_tokens=MOST_TOKENS, resampler_depth=MOST_LAYERS, resampler_heads=1)
    save_adapter(new_adapter(largest, base), tmp_path / "plus.safetensors")
    assert read_adapter(tmp_path / "plus.safetensors").num_tokens == MOST_TOKENS


def test_a_pretrained_file_keeps_the_depth_it_has(base: Components, make_config: MakeConfig, tmp_path: Path) -> None:
    save_adapter(new_adapter(plus(make_config, resampler_depth=2), base), tmp_path / "plus.safetensors")
    for depth in (2, 4):  # the default does not override the file
        config = plus(make_config, pretrained=tmp_path / "plus.safetensors", resampler_depth=depth)
        projection = new_adapter(config, base).image_proj
        assert isinstance(projection, Resampler) and len(projection.layers) == 2


def test_a_new_fine_grained_adapter_is_as_large_as_the_base_model_s_own(
    tiny_bundle_dir: Path, make_config: MakeConfig
) -> None:
    base = load_components(tiny_bundle_dir)
    assert base.fine_adapter is not None
    assert resampler_shape(plus(make_config), base) == ResamplerShape(heads=1, dim=32)
    adapter = new_adapter(plus(make_config, resampler_depth=4), base)
    expected = random_adapter_tensors(UNet2DConditionModel.from_config(base.unet.config), kind="plus")
    assert {name: tensor.shape for name, tensor in adapter.state_dict().items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (768, ResamplerShape(heads=12, dim=768)),
        (1024, ResamplerShape(heads=16, dim=1024)),
        (2048, ResamplerShape(heads=20, dim=1280)),
        (128, ResamplerShape(heads=2, dim=128)),
        (32, ResamplerShape(heads=1, dim=64)),
    ],
)
def test_without_one_the_width_of_the_text_tokens_tells_the_size(
    width: int, expected: ResamplerShape, base: Components, make_config: MakeConfig
) -> None:
    assert resampler_shape(plus(make_config), with_text_width(base, width)) == expected


def test_a_size_that_is_asked_for_counts(base: Components, make_config: MakeConfig) -> None:
    wide = with_text_width(base, 768)
    assert resampler_shape(plus(make_config, resampler_heads=2), wide) == ResamplerShape(heads=2, dim=128)
    assert resampler_shape(plus(make_config, resampler_dim=96), wide) == ResamplerShape(heads=12, dim=96)


def test_an_adapter_of_the_base_model_that_cannot_be_read_is_said_and_passed_over(
    tiny_bundle_dir: Path, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    components = load_components(shutil.copytree(tiny_bundle_dir, tmp_path / "model"))
    tensors = random_adapter_tensors(tiny_unet(), kind="plus")
    del tensors["image_proj.layers.0.0.to_kv.weight"]
    assert components.fine_adapter is not None
    save_file(tensors, components.fine_adapter)  # in the meantime; one that was there before would have been left out
    shape = resampler_shape(plus(make_config), components)
    assert shape == ResamplerShape(heads=1, dim=64)
    assert "The size of the base model's own adapter is not taken over" in caplog.text
