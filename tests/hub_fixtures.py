"""Fixtures for tests of models on the Hub: a Hub on this machine, and an empty cache for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.controlnets import usual_controlnet
from ipa_app.models.entry import HubPart, ModelEntry
from tests.hub_server import COMMIT, FakeHub, serving

SMALL = b'{"a": 1}'
LARGE = bytes(range(256)) * 4096 * 3
WEIGHTS, ADAPTER = "unet/w.fp16.safetensors", "models/a.safetensors"
# Two of the three megabytes of either file, which is read in megabytes, and a half.
MOST = 5 * 2**19


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; downloading is off, as in all tests."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return tmp_path / "hub"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with a base repository of a small and a large file, and one of adapters; downloading is on."""
    repos = {
        "maker/base": {"model_index.json": SMALL, WEIGHTS: LARGE, "unet/w.bin": b"a pickle"},
        "maker/adapters": {ADAPTER: LARGE[::-1]},
    }
    with serving(FakeHub(repos)) as served:
        point_at(served, monkeypatch)
        yield served


def point_at(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub use our Hub instead of the real one."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub_entry(tmp_path: Path) -> Callable[..., ModelEntry]:
    """Return a function that makes an entry of Hub parts, by default of every safe file in `hub`."""

    def make(files: Mapping[str, Mapping[str, str]] | None = None) -> ModelEntry:
        files = files or {
            "maker/base": {"model_index.json": "model_index.json", WEIGHTS: "unet/w.safetensors"},
            "maker/adapters": {ADAPTER: "adapters/a.safetensors"},
        }
        parts = tuple(HubPart(repo=repo, revision=COMMIT, files=paths) for repo, paths in files.items())
        return ModelEntry(name="far", title="Far", location=tmp_path / "assets" / "far", parts=parts)

    return make


def real_files(bundle: Path) -> dict[str, bytes]:
    """Return the files of a tiny bundle as a repository would hold them."""
    harmless = {".json", ".txt", ".safetensors"}
    paths = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.suffix in harmless}
    return {name: path.read_bytes() for name, path in paths.items() if name not in ("ipa_studio.json", "words.json")}


@pytest.fixture
def real_entry(tiny_bundle_dir: Path, tmp_path: Path) -> ModelEntry:
    """The entry of a tiny model that is entirely in the repository "maker/real"."""
    here = entry_from_folder(tiny_bundle_dir, name="real")
    folder = tmp_path / "assets" / "real"
    content = real_files(tiny_bundle_dir)
    return ModelEntry(
        name="real",
        title="Real",
        about="Noise.",
        location=folder,
        adapters={
            name: replace(each, file=folder / "adapters" / each.file.name) for name, each in here.adapters.items()
        },
        image_encoder=folder / "image_encoder",
        controlnets={"pose": usual_controlnet("pose", folder / "controlnet")},
        width=here.width,
        height=here.height,
        steps=here.steps,
        licence="Apache-2.0",
        parts=(HubPart(repo="maker/real", revision=COMMIT, files={path: path for path in content}),),
        download_bytes=sum(map(len, content.values())),
        gpu_memory_gb=6,
        memory_gb=14,
    )
