"""Every published adapter with every base model and image encoder: it fits, or the error names both sides.

All have the published sizes, without memory allocated for the weights.
"""

from __future__ import annotations

import pytest
from transformers import CLIPVisionConfig

from ipa_app.adapter import attention_layers, check_base, check_encoder
from ipa_app.adapter.layout import AdapterLayout, read_layout
from ipa_app.errors import UserError
from tests.adapter_files import PUBLISHED, TOWERS, published_shapes, published_unet, write_shapes

ENCODERS = {name: CLIPVisionConfig(**sizes, num_attention_heads=16) for name, sizes in TOWERS.items()}
BASES = {"sd15": "Stable Diffusion 1.x (16 cross", "sd2": "Stable Diffusion 2.x (16 cross", "sdxl": "SDXL (70 cross"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, AdapterLayout]:
    """Return the layout of each published file, as read from its header."""
    folder = tmp_path_factory.mktemp("published")
    return {
        name: read_layout(write_shapes(folder / f"{name}.safetensors", published_shapes(name))) for name in PUBLISHED
    }


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_an_adapter_fits_its_own_base_and_no_other(files: dict[str, AdapterLayout], name: str, base: str) -> None:
    own, layers = PUBLISHED[name][0], attention_layers(published_unet(base))
    if base == own:
        check_base(files[name], layers)
        return
    with pytest.raises(UserError) as refusal:
        check_base(files[name], layers)
    message = str(refusal.value)
    assert message.startswith(f"{name}.safetensors was made for {BASES[own]}")
    assert f"but this base model is {BASES[base]}" in message


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_an_adapter_fits_its_own_encoder_and_no_other(files: dict[str, AdapterLayout], name: str, encoder: str) -> None:
    own = PUBLISHED[name][2]
    if encoder == own:
        check_encoder(files[name], ENCODERS[encoder])
        return
    with pytest.raises(UserError) as refusal:
        check_encoder(files[name], ENCODERS[encoder])
    wanted, _, given = str(refusal.value).partition("but this model's is")
    assert wanted.startswith(f"{name}.safetensors needs an image encoder")
    assert own in wanted
    assert encoder in given
