"""The bundled model draws the same as when `record.py` last ran, and files from then can still be restored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from ipa_app.engine.metadata import read_request
from tests.recorded.record import BUNDLE, HERE, arithmetic, call, cases, digest, thumbnail, thumbnail_file
from tests.ui.serving import served

# Kernels of other processors round differently, and four steps amplify the difference.
ROUNDING = 3

RECORD = json.loads((HERE / "record.json").read_text(encoding="utf-8"))
CASES = RECORD["cases"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("recorded")
    with served(BUNDLE, temporary=folder) as url:
        yield Client(url, verbose=False, download_files=str(folder))


@pytest.mark.parametrize(("name", "endpoint", "values"), list(cases()))
def test_the_same_request_draws_the_same_pictures(client, name, endpoint, values):
    files, settings = call(client, endpoint, values)
    for index, file in enumerate(files):
        with Image.open(file) as drawn, Image.open(thumbnail_file(name, index)) as recorded:
            picture = drawn.convert("RGB")
            difference = np.asarray(thumbnail(picture), int) - np.asarray(recorded.convert("RGB"), int)
        assert np.abs(difference).max() <= ROUNDING
        if arithmetic() == RECORD["arithmetic"]:
            assert digest(picture) == CASES[name]["digests"][index]
    assert settings.items() >= CASES[name]["settings"].items()


@pytest.mark.parametrize("endpoint", ["variation", "mix", "inpaint", "pose"])
def test_a_file_made_then_is_restored(endpoint):
    request = read_request(HERE / "files" / f"{endpoint}.png")
    noted = CASES[f"{endpoint}-00"]["settings"]
    assert (request.task, request.seed, request.scale) == (endpoint, noted["seed"], noted["scale"])
    assert (request.adapter, request.steps, request.prompt) == (noted["adapter"], noted["steps"], noted["prompt"])
    assert len(request.references) == 1


def test_nothing_is_recorded_that_is_no_case():
    expected = {name for name, _, _ in cases()}
    assert set(CASES) == expected
    assert {Path(file).stem.rsplit("-", 1)[0] for file in (HERE / "thumbnails").iterdir()} == expected
