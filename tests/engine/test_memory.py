"""A request that needs more memory than there is fails in words, and the next one works."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S

REQUEST = GenerateRequest(task="mix", prompt="a cat", seed=1)


def test_running_out_of_memory_is_told_and_over_with_the_request(
    tiny_bundle_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    engine = Engine(manager)
    unet = manager.get("toybox", timeout=TIMEOUT_S).pipelines["text_to_image"].unet
    greedy = unet.register_forward_pre_hook(lambda *_: torch.empty(2**50) and None)
    try:
        with caplog.at_level(logging.ERROR), pytest.raises(UserError, match="not enough memory .* smaller pictures"):
            engine.submit(REQUEST).result(TIMEOUT_S)
        assert caplog.text == ""  # nobody's bug
        greedy.remove()
        assert engine.submit(REQUEST).result(TIMEOUT_S).images
    finally:
        engine.close()
