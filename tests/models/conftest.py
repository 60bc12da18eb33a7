"""A Hub on this machine and an empty cache for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from huggingface_hub import constants

from ipa_app.models.entry import HubPart, ModelEntry
from tests.hub_server import COMMIT, FakeHub, serving

SMALL = b'{"a": 1}'
LARGE = bytes(range(256)) * 4096 * 3


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; downloading is switched off, as everywhere in the tests."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return tmp_path / "hub"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with a base repository of a small and a large file, and one of adapters; downloading is switched on."""
    repos = {
        "maker/base": {"model_index.json": SMALL, "unet/w.fp16.safetensors": LARGE, "unet/w.bin": b"a pickle"},
        "maker/adapters": {"models/a.safetensors": LARGE[::-1]},
    }
    with serving(FakeHub(repos)) as served:
        point_at(served, monkeypatch)
        yield served


def point_at(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub believe that a Hub of ours is the real one."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub_entry(tmp_path: Path) -> Callable[..., ModelEntry]:
    """Make an entry of parts, by default of everything harmless in `hub`."""

    def make(files: Mapping[str, Mapping[str, str]] | None = None) -> ModelEntry:
        files = files or {
            "maker/base": {"model_index.json": "model_index.json", "unet/w.fp16.safetensors": "unet/w.safetensors"},
            "maker/adapters": {"models/a.safetensors": "adapters/a.safetensors"},
        }
        parts = tuple(HubPart(repo=repo, revision=COMMIT, files=paths) for repo, paths in files.items())
        return ModelEntry(name="far", title="Far", location=tmp_path / "assets" / "far", parts=parts)

    return make
