"""The adapters' image encoder, alone or in a complete CLIP: app and training read it by its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.image_encoder import ImageEncoder
from ipa_app.training.components import load_components
from tests.checkpoints import load
from tests.engine.conftest import noise_picture
from tests.tiny_models import CLIP_PROJECTION, tiny_clip_vision

WRONG_PROJECTION = 512


def write_complete_clip(folder: Path, *, nested: str = "vision_config") -> None:
    """Replace the tiny tower by a complete CLIP that contains it, configured as in most repositories.

    Args:
        folder: of the image encoder.
        nested: key of the tower's own settings in config.json.
    """
    tower = tiny_clip_vision()
    text = CLIPTextConfig(
        vocab_size=100, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    vision = tower.config.to_dict() | {"projection_dim": WRONG_PROJECTION}
    clip = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision, projection_dim=CLIP_PROJECTION)
    ).half()
    clip.vision_model.load_state_dict(tower.vision_model.state_dict())
    clip.visual_projection.load_state_dict(tower.visual_projection.state_dict())
    shutil.rmtree(folder)
    clip.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    assert config["vision_config"]["projection_dim"] == WRONG_PROJECTION
    config[nested] = config.pop("vision_config")
    path.write_text(json.dumps(config))


def features(model: Any) -> torch.Tensor:
    prompt = model.encode(noise_picture(size=(40, 40)), model.entry.adapter("base"))
    return next(iter(prompt.cond.values())).key


@pytest.mark.parametrize("nested", ["vision_config", "vision_config_dict"])
def test_a_complete_clip_is_the_tower_in_it(copy: Path, tiny_bundle_dir: Path, nested: str) -> None:
    write_complete_clip(copy / "image_encoder", nested=nested)
    ours, theirs = (load(entry_from_folder(folder, name="x")) for folder in (copy, tiny_bundle_dir))
    assert ours.image_encoder.config.projection_dim == CLIP_PROJECTION
    assert torch.equal(features(ours), features(theirs))
    assert ours.memory.needed == theirs.memory.needed, "its text tower is not read"


def test_training_reads_it_as_the_app_does(copy: Path, tiny_bundle_dir: Path) -> None:
    write_complete_clip(copy / "image_encoder")
    ours, theirs = (load_components(folder) for folder in (copy, tiny_bundle_dir))
    assert [ours.clip_dim(kind) for kind in ("base", "plus")] == [theirs.clip_dim(kind) for kind in ("base", "plus")]
    expected = theirs.image_encoder.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in ours.image_encoder.state_dict().items())


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "siglip_vision_model"}, "is of type siglip_vision_model, but adapters need a CLIP"),
        ({"vision_config": {"model_type": "dinov2"}}, "is of type dinov2"),
        ({"image_size": "large"}, "describes an unknown kind of CLIPVisionModelWithProjection"),
    ],
)
def test_another_kind_of_tower_is_named(copy: Path, is_training: bool, changes: dict[str, object], words: str) -> None:
    path = copy / "image_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=words):
        load_components(copy) if is_training else load(entry_from_folder(copy, name="x"))


@pytest.mark.parametrize("is_training", [False, True])
def test_a_tower_without_projection_is_named(copy: Path, is_training: bool) -> None:
    """The library would initialise it at random."""
    path = copy / "image_encoder" / "model.safetensors"
    tensors = load_file(path)
    del tensors["visual_projection.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"image encoder of \w+ has no projection \(visual_projection\.weight\)"):
        load_components(copy) if is_training else load(entry_from_folder(copy, name="x"))


def test_a_processor_is_looked_for_where_it_may_lie(copy: Path, tmp_path: Path) -> None:
    encoder = ImageEncoder(copy / "image_encoder", "Tiny")
    own = copy / "feature_extractor" / "preprocessor_config.json"
    own.write_text(json.dumps(json.loads(own.read_text()) | {"image_mean": [0.1, 0.2, 0.3]}))
    assert tuple(encoder.processor([copy / "feature_extractor"]).image_mean) == (0.1, 0.2, 0.3)
    assert tuple(encoder.processor([tmp_path]).image_mean) != (0.1, 0.2, 0.3)
    assert encoder.processor().crop_size["height"] == 32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<html>", r"preprocessor_config\.json is not readable JSON"),
        ("", r"preprocessor_config\.json is not readable JSON"),
        ('{"crop_size": "big"}', r"preprocessor_config\.json describes an unknown kind of CLIPImageProcessor"),
        ('{"crop_size": null}', r"preprocessor_config\.json describes an unknown kind of CLIPImageProcessor"),
    ],
)
def test_a_broken_processor_is_named(copy: Path, text: str, words: str) -> None:
    (copy / "feature_extractor" / "preprocessor_config.json").write_text(text)
    with pytest.raises(UserError, match=words):
        load(entry_from_folder(copy, name="x"))
