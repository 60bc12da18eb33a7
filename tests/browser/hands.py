"""Actions of a visitor that take more than one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image

RESULTS = "#results .grid-wrap img"
PATIENCE_MS = 120_000
EDITOR = "#inpaint-editor .pixi-target canvas"
# Whether an element is entirely in view, above the bar.
IN_SIGHT = """(selector) => {
    const { top, bottom } = document.querySelector(selector).getBoundingClientRect();
    return top >= 0 && bottom <= innerHeight - 64;
}"""


_asked: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()
_STILL = """() => new Promise((resolve) => {
    const observer = new MutationObserver(again);
    let timer;
    function again() {
        clearTimeout(timer);
        timer = setTimeout(look, 250);
    }
    function look() {
        if (window.unfinished?.size) return again();
        // The bar of a message counts for ten seconds what nobody has to wait for.
        const counts = (each) => each.target?.matches(".toast-body .timer");
        const moves = ({ playState, effect }) =>
            playState === "running" && !counts(effect) && effect.getComputedTiming().endTime !== Infinity;
        if (document.getAnimations().some(moves)) return again();
        observer.disconnect();
        resolve();
    }
    observer.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
    again();
})"""
# Keeps what was put into the queue and is not done. An open event stream would not show it: after one stream has
# brought everything, Gradio's client opens another, which the server closes only when the next event is done.
_COUNT = """
    window.unfinished = new Set();
    const done = new Set(), fetched = window.fetch;
    // Read without a pipe, in which what came last would be lost when Gradio's client, who has it, ends the stream.
    async function hear(stream) {
        const reader = stream.getReader(), decoder = new TextDecoder();
        let heard = "", got;
        try {
            while (!(got = await reader.read()).done) {
                const lines = (heard + decoder.decode(got.value, {stream: true})).split("\\n");
                heard = lines.pop();
                for (const line of lines.filter((each) => each.startsWith("data:"))) {
                    const { msg, event_id } = JSON.parse(line.slice(5));
                    if (msg !== "process_completed") continue;
                    done.add(event_id);
                    window.unfinished.delete(event_id);
                }
            }
        } catch (error) {
            if (error.name !== "AbortError") window.unfinished.clear();  // a line that broke brings nothing more
        }
    }
    window.fetch = async (...asked) => {
        const joining = String(asked[0]?.url ?? asked[0]).includes("/queue/join") && Symbol("on its way");
        if (joining) window.unfinished.add(joining);
        try {
            const answer = await fetched(...asked);
            if (answer.url.includes("/queue/data") && answer.ok) hear(answer.clone().body);
            if (joining && answer.ok) {
                const { event_id } = await answer.clone().json();
                if (!done.has(event_id)) window.unfinished.add(event_id);
            }
            return answer;
        } finally {
            window.unfinished.delete(joining);
        }
    };
"""


def watch(page: Any) -> None:
    """Keep track of a page's unanswered requests, and of what it put into the queue."""
    waiting = _asked.setdefault(page, set())
    page.add_init_script(_COUNT)
    page.on("request", lambda request: None if _is_kept_open(request.url) else waiting.add(request))
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda request: waiting.discard(request))


def keep_nothing(page: Any) -> None:
    """Make a page's browser deny access to its storage, as some are set to: reading it raises an error."""
    denied = "configurable: true, get() { throw new DOMException('Access is denied.', 'SecurityError'); }"
    for store in ("localStorage", "sessionStorage"):
        page.add_init_script(f"Object.defineProperty(window, '{store}', {{ {denied} }});")


def slow_line(page: Any, *, latency_ms: int = 150) -> None:
    """Add latency to every request of the page, as over a slow line."""
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    unlimited = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
    line.send("Network.emulateNetworkConditions", {"latency": latency_ms, **unlimited})


def rest(page: Any) -> None:
    """Wait until a page is idle: nothing moves, nothing changes, and no request is unanswered."""
    page.evaluate(_STILL)
    while _asked.get(page) or page.evaluate("window.unfinished?.size"):
        page.evaluate(_STILL)


def _is_kept_open(url: str) -> bool:
    return "/heartbeat/" in url or "/queue/data" in url


def enter(page: Any, box: str, number: str) -> None:
    """Type a number into a slider's box, repeatedly if needed: an accordion that was just opened resets it."""
    field = f"#{box} input[type=number]"
    page.wait_for_selector(field)
    for _ in range(5):
        rest(page)
        page.fill(field, number)
        page.locator(field).blur()
        rest(page)
        if page.input_value(field) == number:
            return
    raise AssertionError(f"{box} does not keep {number}")


def expect_values(page: Any, **boxes: str) -> None:
    """Wait until number boxes show these values; `_` in a name stands for the `-` in the element's id."""
    for box, expected in boxes.items():
        field = f"#{box.replace('_', '-')} input[type=number]"
        page.wait_for_function(
            "([field, value]) => document.querySelector(field)?.value === value", arg=[field, expected]
        )


def settle(page: Any, selector: str) -> None:
    """Wait until two screenshots of an element in a row are equal."""
    page.wait_for_selector(selector)
    before = None
    for _ in range(60):
        now = page.locator(selector).screenshot()
        if now == before:
            return
        before = now
        rest(page)
    raise AssertionError(f"{selector} does not come to rest")


def load(page: Any, picture: Path) -> None:
    """Choose a picture to inpaint, and wait until it can be painted on."""
    page.click("#tab-inpaint-button")
    page.set_input_files("#inpaint-image input[type=file]", str(picture))
    page.locator("#inpaint-editor .toolbar-wrap button").first.wait_for()
    settle(page, EDITOR)


def open_accordions(page: Any) -> None:
    """Open every visible accordion, including nested ones."""
    closed = page.locator("button.label-wrap:not(.open):visible")
    while found := closed.element_handles():
        for button in found:
            button.click()
        rest(page)


def finger(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Touch the screen, drag to another place, and lift the finger. Needs a page opened with `touch`."""
    screen = page.context.new_cdp_session(page)
    steps = 8
    for step in range(steps + 1):
        x, y = (a + (b - a) * step / steps for a, b in zip(start, end, strict=True))
        kind = "touchMove" if step else "touchStart"
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        page.wait_for_timeout(40)  # fingers are no faster
    screen.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    rest(page)


def press(page: Any, selector: str) -> None:
    """Press a button that draws, and wait until its pictures are there."""
    # The old status is marked, as "busy" may come and go unnoticed while the page is at work.
    page.evaluate("document.querySelector('#status .ipa-status')?.setAttribute('data-before', '')")
    page.click(selector)
    page.wait_for_selector("#status .ipa-done:not([data-before])")


def marked(page: Any, gallery: str) -> list[int]:
    """Return the places of those pictures of a gallery that are shown as chosen."""
    buttons = page.locator(f"{gallery} .grid-wrap button").all()
    return [place for place, each in enumerate(buttons) if "selected" in each.get_attribute("class").split()]


def drawn(page: Any, button: str) -> bytes:
    """Press a button that draws, and return the file of its first picture."""
    press(page, button)
    return body(page, RESULTS)


def body(page: Any, selector: str) -> bytes:
    return page.request.get(page.locator(selector).first.get_attribute("src")).body()


def drop(page: Any, data: bytes, *, kind: str = "png") -> None:
    if not page.is_visible("#restore-file"):
        page.click("#restore-panel > button")
        page.wait_for_selector("#restore-file", state="visible")
    page.set_input_files(
        "#restore-file input[type=file]", {"name": f"result.{kind}", "mimeType": f"image/{kind}", "buffer": data}
    )


def restored(open_page: Any, data: bytes, *, kind: str = "png") -> Any:
    """Open the page anew, drop a result's file on it, and return it once it shows the outcome."""
    page = open_page()
    drop(page, data, kind=kind)
    page.wait_for_selector("#restore-note .ipa-note")
    return page


def changed(before: Path, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the pixels in which a picture differs from a file of the same size."""
    with Image.open(before) as image:
        pixels = np.asarray(image)
    assert after.shape == pixels.shape
    rows, columns = np.nonzero((pixels != after).any(axis=2))
    return rows, columns
