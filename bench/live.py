"""Measure how soon the live picture follows a visitor's changes: `python -m bench.live URL [--events 30]`.

    python -m bench.live URL [--events 30] [--rounds 7] [--json bench/results/live/NAME.json]
    python -m bench.live --table bench/results/live/NAME.json

The app runs at URL, with the bundled model, on this machine. In Chromium, which must be installed, and with Playwright,
which only requirements-dev.txt lists, a visitor drags the strength slider, types a word, moves a joint and paints a
stroke, `--events` times each, and waits for the picture each time. The time is taken in the page: from the
mouse or keyboard event until a new picture is decoded and its frame has begun; and, if that is a draft, until the
requested picture is there.

What live mode adds to the wait of others is measured in this process, with the app's engine and no browser: another
visitor requests one picture, alternately while alone and while one visitor's live picture is requested twenty times a
second. `--json` writes the figures with a description of the machine; `--table` prints such a file as Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from bench.speed import Studio, arguments_of, machine, reference
from bench.timing import Figures, Row, measured, write_json
from bench.tour import PATIENCE_MS, chromium, new_page, take_example
from ipa_app.engine.job import Job
from ipa_app.engine.results import Progress
from ipa_app.runtime import thread_count

EVENTS = 30
_LIVE_EVERY_S = 0.05
_WORDS = ("a red bear", "a blue frog", "a green cat", "a yellow duck", "a pink rabbit")
_STROKES_ACROSS = 6

# Records when the last event of a kind reached the page, when the next new picture became visible, and when the next
# one that is not a draft did.
_WATCH = """(patience) => {
    const box = document.querySelector("#live-picture");
    for (const kind of ["input", "pointermove", "pointerup"])
        addEventListener(kind, (event) => { window.since = event.timeStamp; }, true);
    window.nextPicture = () => {
        let [before, first] = [box.querySelector("img")?.src, null];
        window.seen = new Promise((resolve, reject) => {
            setTimeout(() => reject(new Error("No new picture came.")), patience);
            const observer = new MutationObserver(async () => {
                const picture = box.querySelector("img");
                if (!picture || picture.src === before) return;
                before = picture.src;
                const isDraft = picture.classList.contains("ipa-draft");
                if (!isDraft) observer.disconnect();
                await picture.decode().catch(() => {});
                requestAnimationFrame(() => {
                    const seconds = (performance.now() - window.since) / 1000;
                    first ??= seconds;
                    if (!isDraft) resolve([first, seconds]);
                });
            });
            observer.observe(box, {subtree: true, childList: true, attributes: true});
        });
    };
}"""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds from an event until its picture was visible.

    Attributes:
        what: what the visitor did.
        events: number of events.
        median_s: median.
        worst_s: maximum.
        whole_median_s: median until the requested picture, if a draft comes first.
    """

    what: str
    events: int
    median_s: float
    worst_s: float
    whole_median_s: float


class LiveVisitor:
    """A visitor in live mode, who changes one thing at a time and waits for the picture."""

    def __init__(self, page: Any) -> None:
        """Open the page's live mode.

        Args:
            page: Playwright page that shows the app.
        """
        self._page = page
        page.wait_for_selector("#live")
        page.check("#live input")
        page.wait_for_selector("#live-picture img")
        page.evaluate(_WATCH, PATIENCE_MS)

    def follows(self, what: str, change: Callable[[int], None], events: int) -> Latency:
        """Make one unmeasured change, then measure as many as there are events."""
        seconds = [self._seconds(change, number) for number in range(events + 1)][1:]
        first, whole = zip(*seconds, strict=True)
        return Latency(
            what=what,
            events=events,
            median_s=round(statistics.median(first), 2),
            worst_s=round(max(first), 2),
            whole_median_s=round(statistics.median(whole), 2),
        )

    def _seconds(self, change: Callable[[int], None], number: int) -> tuple[float, float]:
        self._page.evaluate("nextPicture()")
        change(number)
        first, whole = self._page.evaluate("window.seen")
        return first, whole

    @contextmanager
    def dragging(self) -> Iterator[Callable[[int], None]]:
        """Hold the strength slider; yield a function that drags it to another position."""
        slider = self._page.locator("#scale input[type=range]")
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        middle = box["y"] + box["height"] / 2

        def drag(number: int) -> None:
            share = 0.3 + 0.4 * (number * 7 % 10) / 10
            self._page.mouse.move(box["x"] + box["width"] * share, middle)

        self._page.mouse.move(box["x"] + box["width"] * 0.9, middle)
        with self._pressed():
            yield drag

    @contextmanager
    def typing(self) -> Iterator[Callable[[int], None]]:
        """Go to the text tab; yield a function that changes the prompt."""
        take_example(self._page, "mix")
        words = self._page.locator("#mix-prompt textarea")

        def write(number: int) -> None:
            words.select_text()
            self._page.keyboard.insert_text(_WORDS[number % len(_WORDS)])

        yield write

    @contextmanager
    def posing(self) -> Iterator[Callable[[int], None]]:
        """Go to the pose tab and hold a wrist; yield a function that moves it."""
        take_example(self._page, "pose")
        wrist = self._page.locator('#skeleton [aria-label="left wrist"]')
        wrist.scroll_into_view_if_needed()
        box = wrist.locator(".ipa-skel-dot").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def move(number: int) -> None:
            self._page.mouse.move(x - 10 * (number % 5), y - 10 * (number % 3) - 5)

        self._page.mouse.move(x, y)
        with self._pressed():
            yield move

    @contextmanager
    def painting(self) -> Iterator[Callable[[int], None]]:
        """Go to the inpainting tab; yield a function that paints a stroke, each at a different place."""
        take_example(self._page, "inpaint")
        # Remove the example's mask, as strokes inside it change nothing.
        self._page.locator("#inpaint-mask-panel > button").click()
        self._page.locator("#inpaint-mask button[aria-label='Remove Image']").click()
        canvas = self._page.locator("#inpaint-editor .pixi-target canvas")

        def paint(number: int) -> None:
            # Scroll to the centre, clear of the sticky bar; each time, as messages above shift the canvas.
            canvas.evaluate("(element) => element.scrollIntoView({block: 'center'})")
            box = canvas.bounding_box()
            side = min(box["width"], box["height"])
            row, column = divmod(number, _STROKES_ACROSS)
            x = box["x"] + box["width"] / 2 + side * (column - 2.5) / 8
            y = box["y"] + box["height"] / 2 + side * (row - 2.5) / 8
            self._page.mouse.move(x, y)
            with self._pressed():
                self._page.mouse.move(x + side / 30, y + side / 30, steps=3)

        yield paint

    @contextmanager
    def _pressed(self) -> Iterator[None]:
        self._page.mouse.down()
        yield
        self._page.mouse.up()


def latencies(url: str, events: int) -> Iterator[Latency]:
    """Measure in a browser the latencies of the app at an address."""
    with chromium() as browser:
        page = new_page(browser)
        page.goto(url)
        visitor = LiveVisitor(page)
        hands = {
            "the slider is dragged": visitor.dragging,
            "a word is typed": visitor.typing,
            "a joint is moved": visitor.posing,
            "a stroke is painted": visitor.painting,
        }
        for what, hand in hands.items():
            with hand() as change:
                yield visitor.follows(what, change, events)


class LiveOthers:
    """A visitor whose live picture is requested continuously while another visitor waits for one picture."""

    def __init__(self, studio: Studio) -> None:
        """Start with no visitor."""
        self._studio = studio
        self._stop = threading.Event()
        self._asking: threading.Thread | None = None

    def begin(self, seed: int) -> None:
        """Start requesting live pictures, and wait until one is being drawn."""
        self.end()
        self._stop.clear()
        first = self._ask(seed, 0)
        for event in first.events():
            if isinstance(event, Progress) and event.phase == "denoising":
                break
        self._asking = threading.Thread(target=self._ask_on, args=(seed,))
        self._asking.start()

    def end(self, seed: int = 0) -> None:
        """Stop requesting, and wait until nothing is being drawn."""
        self._stop.set()
        if self._asking is not None:
            self._asking.join()
            last = self._ask(seed, 0)  # replaces the previous request, if that is not drawn yet
            while not last.done or b"ipa_drawing 0.0" not in self._studio.engine.metrics.text().splitlines():
                time.sleep(_LIVE_EVERY_S)

    def _ask(self, seed: int, asked: int) -> Job:
        request = self._studio.request(seed, reference=reference(), scale=asked % 20 / 20)
        return self._studio.engine.submit(request, visitor="live", live=True)

    def _ask_on(self, seed: int) -> None:
        asked = 0
        while not self._stop.wait(_LIVE_EVERY_S):
            asked += 1
            self._ask(seed, asked)


def others_row(studio: Studio) -> Row:
    """Compare another visitor's wait for one picture with and without live mode beside it."""
    live = LiveOthers(studio)

    def draw(seed: int) -> object:
        return studio.draw(studio.request(seed, reference=reference()))

    return Row(
        name="another visitor's picture beside live mode",
        ours=draw,
        other=draw,
        beside="without it",
        before_ours=live.begin,
        before_other=live.end,
    )


def table(measured_on: dict[str, Any]) -> str:
    """Format a file's figures as two Markdown tables."""
    head = ("What the visitor does", "A new picture is seen after, median", "Worst", "The one asked for, median", "Of")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|---|"]
    lines += [
        f"| {each['what']} | {each['median_s']:.2f} s | {each['worst_s']:.2f} s | {each['whole_median_s']:.2f} s "
        f"| {each['events']} |"
        for each in measured_on["latencies"]
    ]
    others = measured_on["others"]
    longer = 100 * (1 / others["ratio"] - 1)
    lines += ["", "| What | Takes | Beside it | Takes | Longer by |", "|---|---|---|---|---|"]
    seconds = [f"{others[name]:.2f} s" for name in ("ours_s", "other_s")]
    lines += [f"| {others['row']} | {seconds[0]} | {others['beside']} | {seconds[1]} | {longer:.0f} % |"]
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write figures, or print a written file."""
    arguments = _arguments()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text("utf-8"))))
        return
    torch.set_num_threads(thread_count())  # as in the app
    studio = Studio()
    others: Figures = measured(others_row(studio), arguments.rounds)
    studio.close()
    figures: dict[str, Any] = {"machine": machine(), "others": asdict(others), "latencies": []}
    for each in latencies(arguments.url, arguments.events):
        figures["latencies"].append(asdict(each))
        if arguments.json:
            write_json(arguments.json, figures)
    print(table(figures))


def _arguments() -> argparse.Namespace:
    parser = arguments_of("bench.live", __doc__)
    parser.add_argument("url", nargs="?", help="where the app runs, such as http://127.0.0.1:7860/")
    parser.add_argument("--events", type=int, default=EVENTS, help="how often the visitor does each thing")
    arguments = parser.parse_args()
    if not (arguments.url or arguments.table):
        parser.error("an address or --table is needed")
    return arguments


if __name__ == "__main__":
    main()
