"""What the frozen base model says of texts is what it says of them when it draws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ipa_app.training.components import load_components
from ipa_app.training.encoding import FrozenEncoder

TEXTS = ["a red cat", " ".join(["cat"] * 40), ""]


@pytest.mark.parametrize("settings", [{}, {"use_attention_mask": True}])
def test_texts_are_encoded_as_by_the_pipeline(
    tiny_bundle_dir: Path, tmp_path: Path, settings: Mapping[str, Any]
) -> None:
    """Padding is masked if the text encoder's config.json asks for it."""
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    base = load_components(folder)
    encoder = FrozenEncoder(base, kind="base")
    with torch.no_grad():
        expected, _ = base.pipeline().encode_prompt(TEXTS, torch.device("cpu"), 1, False)
    assert torch.equal(encoder.text_states(encoder.input_ids(TEXTS)).states, expected)
