"""Take README's screenshots of the app as a new visitor sees it: `python -m bench.tour URL [--folder assets/tour]`.

The app runs at URL, with the bundled model. Every tab is opened, filled with its first example and drawn once; exits
with an error if the page makes a request to another machine or logs an error to the browser's console. Other commands
and the tests of the page use the same browser.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

# The headless shell renders the same pages without a window.
COMMANDS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, COMMANDS)), None)
FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    # WebGL, which the mask editor needs, in software.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    # The rest of the page is rendered by the CPU directly, which is cheaper than emulating a GPU.
    "--disable-gpu-compositing",
    "--disable-gpu-rasterization",
)
PATIENCE_MS = 180_000
WIDTH, HEIGHT = 1440, 900
TABS = {"variation": "Variation", "mix": "Text + image", "inpaint": "Inpaint", "pose": "Pose"}
COLOURS = 255
SERIES = {"strengths": "#variation-scale-strip", "adapters": "#variation-both-adapters"}


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium for the context, by Playwright, which only requirements-dev.txt lists."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


def new_page(browser: Any) -> Any:
    """Open a page of the usual size with an empty browser cache."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(PATIENCE_MS)
    return page


def take_example(page: Any, task: str) -> None:
    """Open a task's tab and take its first example."""
    page.get_by_role("tab", name=TABS[task]).click()
    page.locator(f"#{task}-examples button:visible").first.click()
    if task == "inpaint":
        page.wait_for_selector("#inpaint-editor .pixi-target canvas")
    page.wait_for_timeout(3000)


class Visitor:
    """A visitor who keeps screenshots of what they see."""

    def __init__(self, page: Any, folder: Path) -> None:
        self._page = page
        self._folder = folder

    def draw(self, button: str, name: str) -> None:
        """Press a button and keep a screenshot of the result."""
        page = self._page
        # Mark the status of earlier pictures, so that it is not mistaken for the new one.
        page.evaluate("document.querySelector('#status .ipa-status')?.setAttribute('data-before', '')")
        page.click(button)
        page.wait_for_selector("#status .ipa-done:not([data-before])")
        self.keep(name)

    def keep(self, name: str) -> None:
        """Save a screenshot as a PNG with few colours, which is small."""
        page, path = self._page, self._folder / f"{name}.png"
        # As tall as the page, so that the sticky bar is at its end and not across it.
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": WIDTH, "height": max(HEIGHT, height)})
        page.wait_for_timeout(1500)
        page.screenshot(path=path)
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path, flush=True)


def tour(browser: Any, url: str, folder: Path) -> list[str]:
    """Walk through the page and return the errors found."""
    problems: list[str] = []
    page = new_page(browser)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("request", lambda sent: None if sent.url.startswith((url, "data:", "blob:")) else problems.append(sent.url))
    page.goto(url)
    page.wait_for_selector("#variation-generate")
    visitor = Visitor(page, folder)
    visitor.draw("#variation-generate", "variation")
    for name, button in SERIES.items():
        visitor.draw(button, name)
    for task in ("mix", "inpaint", "pose"):
        take_example(page, task)
        visitor.draw(f"#{task}-generate", task)
    return problems


def main() -> None:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where the app runs, such as http://127.0.0.1:7860/")
    parser.add_argument("--folder", type=Path, default=Path("assets/tour"), help="where the screenshots go")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        problems = tour(browser, arguments.url, arguments.folder)
    if problems:
        raise SystemExit("The page had problems:\n" + "\n".join(problems))


if __name__ == "__main__":
    main()
