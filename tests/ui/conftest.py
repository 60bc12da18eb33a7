"""One served app and its client for all tests of the API, and every kind of picture people send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from ipa_app.ui.running import Runner
from tests.hub_fixtures import cache, hub, hub_entry  # noqa: F401 - fixtures are found by being here
from tests.ui.page_parts import Opened, opened_page
from tests.ui.serving import WatchedEngine


@pytest.fixture(scope="session")
def app_url(served_app: tuple[str, WatchedEngine]) -> str:
    return served_app[0]


@pytest.fixture(scope="session")
def client(app_url: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(app_url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of files by name, valid and invalid."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    mask = Image.new("L", (80, 60), 0)
    mask.paste(255, (20, 15, 50, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "plain.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.save(folder / "rotated.jpg", exif=exif)
    picture.save(folder / "animated.gif", save_all=True, append_images=[picture.rotate(90)])
    picture.convert("RGBA").save(folder / "transparent.webp")
    mask.save(folder / "mask.png")
    mask.resize((40, 30)).save(folder / "other_size_mask.png")
    Image.new("L", (80, 60), 0).save(folder / "empty_mask.png")
    Image.new("RGB", (1, 1)).save(folder / "one_pixel.png")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    (folder / "text.png").write_text("this is no picture", encoding="utf-8")
    (folder / "cut.png").write_bytes((folder / "plain.png").read_bytes()[:2000])
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def page(tiny_bundle_dir: Path) -> Iterator[Opened]:
    with opened_page(tiny_bundle_dir) as opened:
        yield opened


@pytest.fixture
def runner(page: Opened) -> Runner:
    parts, studio = page
    return Runner(studio=studio, results=parts.results, tabs=parts.tabs)
