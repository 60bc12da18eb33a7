"""Load-test a running app with many visitors at once: `python -m bench.load URL --visitors 100`.

Every visitor requests one picture over HTTP, all at the same time, as the page does, each with their own session.
Afterwards each picture is drawn again, alone, and compared; pixels drawn in a batch may differ by 1 of 255, and with
`IPA_EXACT=1` not at all. With `--hog 100` the first visitor requests that many pictures at once, and the waits of the
others are printed. Exits with an error if somebody was refused or a picture differs.

`--replicas 2` measures instead how much more two replicas draw than one. One or two visitors who never pause alternate
for `--rounds` rounds each, so that other load on the machine affects both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx
import numpy as np
from PIL import Image

_PATIENCE_S = 3600
_LOOK_EVERY_S = 0.5
# Pictures per visitor in a round of a comparison.
_EACH = 4


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a request.

    Attributes:
        seed: the requested seed.
        seconds: time until the answer.
        pixels: the picture's pixels as bytes; None if there was no picture.
        refusal: the message instead of a picture.
    """

    seed: int
    seconds: float
    pixels: bytes | None = None
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A running app, called as a browser calls it.

    Attributes:
        client: HTTP client with the app's base URL, and a limited number of kept connections.
        function: number by which the page calls the endpoint `/mix`.
        values: arguments by parameter name, in order.
    """

    client: httpx.AsyncClient
    function: int
    values: Mapping[str, Any]

    @classmethod
    async def found(cls, client: httpx.AsyncClient, *, steps: int, size: int = 0) -> Studio:
        """Find out how the page calls the endpoint.

        Args:
            client: HTTP client, as in `Studio`.
            steps: denoising steps of every picture.
            size: width and height of every picture, in pixels; 0 is the model's own.
        """
        config = (await client.get("config")).raise_for_status().json()
        endpoint = next(each for each in config["dependencies"] if each["api_name"] == "mix")
        components = {each["id"]: each["props"] for each in config["components"]}
        info = (await client.get("gradio_api/info")).raise_for_status().json()
        names = [each["parameter_name"] for each in info["named_endpoints"]["/mix"]["parameters"]]
        defaults = [components[key].get("value") for key in endpoint["inputs"]]
        given = {"prompt": "a red bear", "count": 1, "steps": steps, "width": size, "height": size}
        return cls(client=client, function=endpoint["id"], values=dict(zip(names, defaults, strict=True)) | given)

    async def draw(self, seeds: Sequence[int]) -> list[Outcome]:
        """Request pictures, all at once as one visitor, and wait for them."""
        since, session = time.monotonic(), uuid.uuid4().hex
        joined = await asyncio.gather(*(self.join(session, seed=seed) for seed in seeds))
        asked = dict(zip(joined, seeds, strict=True))
        outcomes = []
        async for message in self.messages(session):
            if message.get("msg") == "process_completed":
                seed = asked.pop(message["event_id"])
                outcomes.append(await self._outcome(message, seed=seed, seconds=time.monotonic() - since))
            if not asked:
                break
        silent = time.monotonic() - since
        return outcomes + [Outcome(seed=seed, seconds=silent, refusal="no answer") for seed in asked.values()]

    async def join(self, session: str, **given: Any) -> str:
        """Request a picture and return the number of the call.

        Args:
            session: the visitor's session.
            given: overrides of `values`.
        """
        data = list({**self.values, **given}.values())
        join = {"data": data, "fn_index": self.function, "session_hash": session}
        joined = await self.client.post("gradio_api/queue/join", json=join)
        return joined.raise_for_status().json()["event_id"]

    async def messages(self, session: str) -> AsyncGenerator[dict[str, Any]]:
        """Yield the app's messages to a visitor until all of their requests have ended."""
        async with self.client.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    async def _outcome(self, message: dict[str, Any], *, seed: int, seconds: float) -> Outcome:
        if not message["success"]:
            return Outcome(seed=seed, seconds=seconds, refusal=str(message["output"].get("error")))
        (file,) = message["output"]["data"][0]
        answer = (await self.client.get(f"gradio_api/file={file['path']}")).raise_for_status()
        with Image.open(io.BytesIO(answer.content)) as picture:
            return Outcome(seed=seed, seconds=seconds, pixels=picture.tobytes())

    async def answers(self, stop: asyncio.Event) -> list[float]:
        """Fetch the page twice a second until stopped, and return the seconds that each fetch took."""
        seconds = []
        while not stop.is_set():
            since = time.monotonic()
            (await self.client.get("")).raise_for_status()
            seconds.append(time.monotonic() - since)
            await asyncio.sleep(_LOOK_EVERY_S)
        return seconds


@asynccontextmanager
async def studio_at(url: str, *, steps: int, keepalive: int, size: int = 0) -> AsyncIterator[Studio]:
    """Connect to an app and have it draw once, so that its model is loaded.

    Args:
        url: the app's.
        steps: denoising steps of every picture.
        keepalive: number of connections kept between calls.
        size: as for `Studio.found`.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=keepalive)
    async with httpx.AsyncClient(base_url=f"{url.rstrip('/')}/", timeout=_PATIENCE_S, limits=limits) as client:
        studio = await Studio.found(client, steps=steps, size=size)
        await studio.draw([0])
        yield studio


async def load(url: str, *, visitors: int, hog: int, steps: int, size: int = 0) -> bool:
    """Start all visitors at once and print the outcome; return whether all were served with the right pictures."""
    async with studio_at(url, steps=steps, keepalive=visitors, size=size) as studio:
        stop = asyncio.Event()
        page = asyncio.create_task(studio.answers(stop))
        first = list(range(1, max(1, hog) + 1))
        others = [[seed] for seed in range(len(first) + 1, len(first) + visitors)]
        everybody = await asyncio.gather(*(studio.draw(seeds) for seeds in [first, *others]))
        stop.set()
        outcomes = [outcome for one in everybody for outcome in one]
        alone = [outcome for each in outcomes if each.pixels for outcome in await studio.draw([each.seed])]
        return report(outcomes, alone, others=[each for each in outcomes if each.seed > hog], page=await page)


async def compare(url: str, *, replicas: int, rounds: int, steps: int, size: int = 0) -> bool:
    """Print the pictures per minute with one request at a time and with one per replica, alternately.

    Args:
        url: of an app with this many replicas.
        replicas: at least two.
        rounds: rounds of each.
        steps: denoising steps of every picture.
        size: as for `Studio.found`.

    Returns:
        Whether all were served; stops at the first refusal.
    """
    ratios = []
    async with studio_at(url, steps=steps, keepalive=2 * replicas, size=size) as studio:
        try:
            await _pictures_a_minute(studio, visitors=replicas)  # so that every replica has loaded the model
            for _ in range(rounds):
                alone, together = [await _pictures_a_minute(studio, visitors=each) for each in (1, replicas)]
                ratios.append(together / alone)
                told = f"{alone:.1f} one at a time, {together:.1f} with {replicas}"
                print(f"pictures a minute: {told}: {ratios[-1]:.2f}")
        except _RefusedError as refused:
            print(f"refused: {refused}")
            return False
    print(f"median of {rounds}: {median(ratios):.2f} times as many")
    return True


class _RefusedError(Exception):
    """A visitor got this message instead of a picture."""


async def _pictures_a_minute(studio: Studio, *, visitors: int) -> float:
    """Have each visitor request some pictures, one after the other, and return the pictures per minute.

    Raises:
        _RefusedError: a visitor did not get one.
    """

    async def draw_on() -> None:
        for seed in range(_EACH):
            (outcome,) = await studio.draw([seed])
            if outcome.pixels is None:
                raise _RefusedError(outcome.refusal)

    since = time.monotonic()
    await asyncio.gather(*(draw_on() for _ in range(visitors)))
    return 60 * visitors * _EACH / (time.monotonic() - since)


def report(
    outcomes: Sequence[Outcome], alone: Sequence[Outcome], *, others: Sequence[Outcome], page: Sequence[float]
) -> bool:
    """Print the figures.

    Args:
        outcomes: of all requests.
        alone: of those that were served, drawn again alone.
        others: the outcomes whose waits count.
        page: seconds that fetches of the page took meanwhile.
    """
    expected = {each.seed: each.pixels for each in alone}
    served = [each for each in outcomes if each.pixels]
    equal = sum(_is_equal(expected[each.seed], each.pixels) for each in served)
    identical = sum(expected[each.seed] == each.pixels for each in served)
    waits = [each.seconds for each in others if each.pixels]
    print(f"served {len(served)} of {len(outcomes)}, refused {len(outcomes) - len(served)}")
    print(f"equal to their solo runs: {equal}, {identical} of them in every bit")
    if waits:
        print(f"wait: median {median(waits):.1f} s, worst {max(waits):.1f} s, of {len(waits)}")
        print(f"one picture alone: median {median(each.seconds for each in alone):.2f} s")
        print(f"pictures a minute: {60 * len(served) / max(each.seconds for each in served):.0f}")
    print(f"page: median answer {median(page):.2f} s, worst {max(page):.2f} s, of {len(page)}")
    for refusal in sorted({str(each.refusal) for each in outcomes if not each.pixels}):
        print(f"refused: {refusal}")
    return equal == len(outcomes)


def _is_equal(one: bytes | None, other: bytes | None) -> bool:
    """Whether two pictures have the same size and differ at most by rounding."""
    if one is None or other is None or len(one) != len(other):
        return False
    pixels, others = (np.frombuffer(each, np.uint8).astype(int) for each in (one, other))
    return bool(np.abs(pixels - others).max() <= 1)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of a running app, such as http://127.0.0.1:7860")
    parser.add_argument("--visitors", type=int, default=100)
    parser.add_argument("--hog", type=int, default=0, help="how many pictures the first visitor asks for at once")
    parser.add_argument("--steps", type=int, default=0, help="steps for each picture; 0 is the model's own number")
    parser.add_argument("--size", type=int, default=0, help="width and height of each picture; 0 is the model's own")
    parser.add_argument(
        "--replicas", type=int, default=0, help="number of replicas that draw, to compare them with a single one"
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds of the comparison")
    args = parser.parse_args()
    drawing = {"steps": args.steps, "size": args.size}
    if args.replicas:
        work = compare(args.url, replicas=args.replicas, rounds=args.rounds, **drawing)
    else:
        work = load(args.url, visitors=args.visitors, hog=args.hog, **drawing)
    if not asyncio.run(work):
        raise SystemExit("Not everybody got their picture.")


if __name__ == "__main__":
    main()
