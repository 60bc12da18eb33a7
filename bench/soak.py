"""Soak-test a running app with visitors who come and go for hours: `python -m bench.soak URL --minutes 120`.

One visitor per second: most request a picture, from text or from an uploaded picture, some request several. Of ten, six
wait for it; one cancels it and three close the page, at a moment within the last wait of a visitor who stayed, unless
they have it by then. Meanwhile the app's memory, threads and open files are read from its /metrics. Writes the curve as
JSON and as a picture; exits with an error if memory grows by more than 2 % after the first ten minutes, or threads or
files are left over when all visitors have gone.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
from PIL import Image

from bench.load import Studio, studio_at
from bench.timing import write_json

SETTLING_S = 600.0
MOST_GROWTH = 0.02
_PATIENCE_S = 600
_QUIET_S = 180.0
"""Wait after the last visitor: the app keeps state for pages that might be reloaded, and idle threads must end."""
_NAMES = ("ipa_memory_bytes", "ipa_threads", "ipa_open_files", "ipa_waiting")
_SIZE = (720, 300)
_STAY, _STOP, _CLOSE = "stayed", "stopped", "closed the page"


@dataclass(frozen=True)
class Sample:
    """One reading of /metrics.

    Attributes:
        seconds: time since the start.
        memory: of the process, in bytes.
        threads: number of the process's threads.
        files: number of its open files, including sockets.
        waiting: number of queued requests.
    """

    seconds: float
    memory: float
    threads: float
    files: float
    waiting: float


@dataclass
class Soak:
    """The visitors of one run.

    Attributes:
        studio: the app.
        chance: random generator that decides what each visitor does.
        outcomes: number of visits by outcome.
        samples: readings so far.
        takes_s: last wait of a visitor who stayed; a guess until there is one.
    """

    studio: Studio
    chance: random.Random
    outcomes: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    takes_s: float = 0.5
    _began: float = field(default_factory=time.monotonic)

    async def run(self, *, seconds: float, every_s: float, sample_every_s: float) -> None:
        """Start a visitor every `every_s` seconds; then wait until all have gone and the app is quiet again."""
        sampling = asyncio.create_task(self._sample(sample_every_s))
        visits: set[asyncio.Task[None]] = set()
        while time.monotonic() - self._began < seconds:
            visit = asyncio.create_task(self._visit())
            visits.add(visit)
            visit.add_done_callback(visits.discard)
            await asyncio.sleep(every_s)
        await asyncio.gather(*visits)
        await asyncio.sleep(_QUIET_S)
        sampling.cancel()
        self.samples.append(await self._now())

    async def _visit(self) -> None:
        what = self.chance.choices((_STAY, _STOP, _CLOSE), (6, 1, 3))[0]
        try:
            self.outcomes[await self._do(what)] += 1
        except httpx.HTTPError as error:
            self.outcomes[type(error).__name__] += 1

    async def _do(self, what: str) -> str:
        """Make one visit with a request; return its outcome."""
        client, session, chance = self.studio.client, uuid.uuid4().hex, self.chance
        (await client.get("")).raise_for_status()
        given: dict[str, Any] = {"seed": chance.randrange(2**31), "count": chance.choice((1, 1, 1, 2))}
        if chance.random() < 0.5:
            given["reference"] = await self._uploaded()
        event = await self.studio.join(session, **given)
        answer = asyncio.create_task(self._answer(session))
        try:
            stays = _PATIENCE_S if what == _STAY else chance.random() * self.takes_s
            since = time.monotonic()
            done, _ = await asyncio.wait({answer}, timeout=stays)
            if done:
                self.takes_s = time.monotonic() - since if what == _STAY else self.takes_s
                return answer.result()
            if what == _STOP:
                await client.post(
                    "gradio_api/cancel",
                    json={"session_hash": session, "fn_index": self.studio.function, "event_id": event},
                )
            return what
        finally:
            answer.cancel()  # closes the connection
            await asyncio.wait({answer})

    async def _answer(self, session: str) -> str:
        """Wait for the answer to a request; return its outcome."""
        async with aclosing(self.studio.messages(session)) as messages:
            async for told in messages:
                if told.get("msg") == "process_completed":
                    return "drawn" if told["success"] else f"refused: {told['output'].get('error')}"
        return "no answer"

    async def _uploaded(self) -> dict[str, Any]:
        picture, data = Image.effect_noise((160, 120), self.chance.uniform(20, 120)).convert("RGB"), io.BytesIO()
        picture.save(data, "PNG")
        answer = await self.studio.client.post("gradio_api/upload", files={"files": ("a.png", data.getvalue())})
        return {"path": answer.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}

    async def _sample(self, every_s: float) -> None:
        while True:
            self.samples.append(await self._now())
            await asyncio.sleep(every_s)

    async def _now(self) -> Sample:
        text = (await self.studio.client.get("metrics")).raise_for_status().text
        told = dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return Sample(time.monotonic() - self._began, *(float(told[name]) for name in _NAMES))


def growth(samples: Sequence[Sample]) -> float:
    """Return the relative growth of memory from the minutes after settling to the last ones; 0 if it has not settled.

    Args:
        samples: of a run; the last one was taken when all visitors had gone.
    """
    settled = [each for each in samples[:-1] if each.seconds >= SETTLING_S]
    part = max(1, len(settled) // 5)
    return (
        fmean(each.memory for each in settled[-part:]) / fmean(each.memory for each in settled[:part]) - 1
        if settled
        else 0.0
    )


def means(samples: Sequence[Sample]) -> list[float]:
    """Return the mean memory of every ten minutes in MB."""
    by_part = groupby(samples, key=lambda each: each.seconds // 600)
    return [fmean(each.memory for each in part) / 2**20 for _, part in by_part]


def left_over(samples: Sequence[Sample]) -> list[str]:
    """Name what there is more of at the end than at the start, beyond what an idle server keeps ready."""
    first, last = samples[0], samples[-1]
    return [name for name, most in (("threads", 8), ("files", 8)) if getattr(last, name) > getattr(first, name) + most]


def as_svg(samples: Sequence[Sample]) -> str:
    """Plot memory, threads and open files over time, each from 0 to its maximum."""
    width, height = _SIZE
    lines = []
    for number, (name, colour) in enumerate((("memory", "#2563eb"), ("threads", "#d97706"), ("files", "#059669"))):
        values = [getattr(each, name) for each in samples]
        most, until = max(values), samples[-1].seconds
        points = " ".join(
            f"{40 + (width - 60) * each.seconds / until:.1f},{height - 40 - (height - 90) * value / most:.1f}"
            for each, value in zip(samples, values, strict=True)
        )
        label = f"memory, at most {most / 2**20:.0f} MB" if name == "memory" else f"{name}, at most {most:.0f}"
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        lines.append(f'<text x="{40 + 220 * number}" y="24" fill="{colour}">{label}</text>')
    minutes = samples[-1].seconds / 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="14"><rect width="{width}" height="{height}" fill="#fff"/>{"".join(lines)}'
        f'<text x="40" y="{height - 14}" fill="#555">0</text>'
        f'<text x="{width - 20}" y="{height - 14}" fill="#555" text-anchor="end">{minutes:.0f} minutes</text></svg>\n'
    )


def is_steady(samples: Sequence[Sample]) -> bool:
    """Whether nothing grew and nothing was left over."""
    return growth(samples) <= MOST_GROWTH and not left_over(samples)


def report(samples: Sequence[Sample], outcomes: Mapping[str, int]) -> str:
    """Format the readings and the number of visits by outcome."""
    first, last = samples[0], samples[-1]
    visits = ", ".join(f"{count} {what}" for what, count in Counter(outcomes).most_common())
    return "\n".join(
        [
            f"visitors: {sum(outcomes.values())}; {visits}",
            f"memory: {first.memory / 2**20:.0f} MB at first, {last.memory / 2**20:.0f} MB at last",
            f"memory after the first {SETTLING_S / 60:.0f} minutes: {growth(samples):+.1%}",
            f"memory, means of ten minutes: {', '.join(f'{each:.0f}' for each in means(samples))} MB; at most "
            f"{max(each.memory for each in samples) / 2**20:.0f} MB",
            f"threads: {first.threads:.0f}, then {last.threads:.0f}; "
            f"open files: {first.files:.0f}, then {last.files:.0f}",
            f"left over: {', '.join(left_over(samples)) or 'nothing'}",
        ]
    )


async def soaked(url: str, *, minutes: float, every_s: float, sample_every_s: float, steps: int) -> Soak:
    """Run the soak test against an app."""
    async with studio_at(url, steps=steps, keepalive=0) as studio:
        soak = Soak(studio, random.Random(0))
        await soak.run(seconds=60 * minutes, every_s=every_s, sample_every_s=sample_every_s)
        return soak


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of a running app, such as http://127.0.0.1:7860")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--every", type=float, default=1, help="seconds between two visitors")
    parser.add_argument("--sample-every", type=float, default=10, help="seconds between two measurements of the app")
    parser.add_argument("--steps", type=int, default=2, help="steps for each picture")
    parser.add_argument(
        "--output", type=Path, default=Path("soak"), help="name of the JSON file and the picture, without ending"
    )
    args = parser.parse_args()
    soak = asyncio.run(
        soaked(args.url, minutes=args.minutes, every_s=args.every, sample_every_s=args.sample_every, steps=args.steps)
    )
    data = {"samples": [asdict(each) for each in soak.samples], "outcomes": dict(soak.outcomes)}
    write_json(args.output.with_suffix(".json"), data)
    args.output.with_suffix(".svg").write_text(as_svg(soak.samples), encoding="utf-8")
    print(report(soak.samples, soak.outcomes))
    if not is_steady(soak.samples):
        raise SystemExit("Something grew, or was left over.")


if __name__ == "__main__":
    main()
