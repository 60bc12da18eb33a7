"""Measure the cost of a first visit to the page: `python -m bench.page URL [--visits 5]`.

The app runs at URL. Prints the size of the page and of `/config`, their bytes on the wire and those of everything a
first visit fetches, the time until *Generate* can be pressed, and the CPU time of the page's main thread until then,
which depends little on other load on the machine; each time in a fresh Chromium on this machine.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from typing import Any

import httpx

from bench.tour import chromium, new_page

BROWSERS_ACCEPT = "gzip, deflate, br, zstd"
# Resolves when the button can be pressed and the page's own scripts have run: it checks at every frame, then waits
# until the main thread is idle.
_INTERACTIVE = """() => new Promise((resolve) => {
    const look = () => {
        const button = document.querySelector("#variation-generate");
        if (!button || button.disabled || !document.querySelector("#language option")) requestAnimationFrame(look);
        else requestIdleCallback(() => resolve(performance.now()));
    };
    look();
})"""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """Bytes of a response: decoded, and on the wire."""

    read: int
    sent: int


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A first visit.

    Attributes:
        answers: number of responses.
        sent: their bytes on the wire.
        seconds: until the page was interactive.
        busy_s: CPU time of the page's main thread until then, in seconds.
    """

    answers: int
    sent: int
    seconds: float
    busy_s: float


def weigh(address: str) -> Weight:
    """Fetch an address as a browser would."""
    with httpx.stream("GET", address, headers={"Accept-Encoding": BROWSERS_ACCEPT}) as answer:
        answer.raise_for_status()
        read = len(answer.read())
        return Weight(read=read, sent=answer.num_bytes_downloaded)


def visit(browser: Any, url: str) -> Visit:
    """Open the page with an empty browser cache."""
    page = new_page(browser)
    sent: list[int] = []
    wire = page.context.new_cdp_session(page)
    wire.send("Network.enable")
    wire.on("Network.loadingFinished", lambda answer: sent.append(int(answer["encodedDataLength"])))
    wire.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(url, wait_until="commit")
    seconds = page.evaluate(_INTERACTIVE) / 1000
    metrics = {each["name"]: each["value"] for each in wire.send("Performance.getMetrics")["metrics"]}
    page.wait_for_load_state("load")
    page.close()
    return Visit(answers=len(sent), sent=sum(sent), seconds=seconds, busy_s=metrics["TaskDuration"])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where the app runs, such as http://127.0.0.1:7860/")
    parser.add_argument("--visits", type=int, default=5, help="how many first visits there are")
    arguments = parser.parse_args()
    for name, address in (("page", arguments.url), ("/config", f"{arguments.url.rstrip('/')}/config")):
        weight = weigh(address)
        print(f"{name}: {weight.read / 1000:.0f} kB, {weight.sent / 1000:.0f} kB on the wire")
    with chromium() as browser:
        visits = [visit(browser, arguments.url) for _ in range(arguments.visits)]
    seconds = [each.seconds for each in visits]
    last = visits[-1]
    print(f"first visit: {last.answers} answers, {last.sent / 1000:.0f} kB on the wire")
    print(f"interactive: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s, of {len(visits)}")
    print(f"busy until then: median {statistics.median(each.busy_s for each in visits):.2f} s")


if __name__ == "__main__":
    main()
