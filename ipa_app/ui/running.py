"""From a button to the pictures: the event handlers that run a job, as updates of the page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

import gradio as gr

from ipa_app.engine.requests import RANDOM_SEED, GenerateRequest
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.engine.series import FailedPart
from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message
from ipa_app.options import options
from ipa_app.ui.adapters import adapters_named
from ipa_app.ui.calls import awaited
from ipa_app.ui.controls import AT_ONCE, IN_TURN, Update
from ipa_app.ui.failures import explain, gradio_error
from ipa_app.ui.form import build_request
from ipa_app.ui.orders import SERIES, Order
from ipa_app.ui.pictures import inline_picture, keep_files
from ipa_app.ui.results import LONGEST_HISTORY, SHOW_RESULTS, ResultsPanel, Turn, columns_for, remember, show_pictures
from ipa_app.ui.status import progress_line, status_line
from ipa_app.ui.studio import Studio, UnsavedError, save_pictures, save_zip
from ipa_app.ui.tabs.shared import TaskTab
from ipa_app.ui.turns import opening_turn

_PATIENCE = 120.0
"""Seconds that a job goes on without a follower: long enough to reload the page, even on a busy machine."""
_CLOSING_S = 3.0
"""Seconds within which a closed page is noticed."""
_REST_S = 0.3
"""Seconds between two updates of a job's progress; each slows drawing a little, and nobody reads faster."""

_AS_OPENED = {option.api: option.initial for option in options(GenerateRequest).values()}
"""What boxes hold when the page opens, if not the default; one that was emptied counts as that again."""


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What a press asks for, besides the form's values."""

    order: Order | None
    history: Sequence[str]
    compared: Sequence[str] | None = None
    presented: bool = False
    on_set_seed: bool = False


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What the browser stores of a job, so that a reloaded page can follow it."""

    job: str
    series: str | None = None
    presented: bool = False
    elsewhere: bool = False
    on_set_seed: bool = False

    @classmethod
    def read(cls, sent: object) -> _Kept | None:
        """Read what a browser sent, which may be anything; None if it is not valid."""
        if not isinstance(sent, dict) or not isinstance(job := sent.get("job"), str):
            return None
        series = sent.get("series")
        flags = {name: sent.get(name) is True for name in ("presented", "elsewhere", "on_set_seed")}
        return cls(job=job, series=series if isinstance(series, str) else None, **flags)


class Runner:
    """The page's side of a job: it starts one and turns its events into updates of the page."""

    def __init__(
        self, *, studio: Studio, results: ResultsPanel, tabs: Sequence[TaskTab], beside: Sequence[gr.Button] = ()
    ) -> None:
        """Begin with nothing running.

        Args:
            studio: runs the requests.
            results: the panel in which pictures appear.
            tabs: the tabs whose buttons start and stop a job.
            beside: further buttons that start a job; all are disabled meanwhile, as a page has one job at a time.
        """
        self.studio = studio
        self.results = results
        self.generate_buttons = [tab.generate for tab in tabs] + [
            *(button for tab in tabs for button in tab.extras.values()),
            *(button for tab in tabs for button in tab.starting),
            results.more_like_this,
            *beside,
        ]
        self.stop_buttons = [tab.stop for tab in tabs]

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        return list(dict.fromkeys([*vars(self.results).values(), *self.generate_buttons, *self.stop_buttons]))

    def connect_presses(self) -> None:
        """Make every press show at once that it has been noticed: over a slow line, the server's first update is late.

        Called before anything else is connected to the buttons. The browser takes the listeners of a press in turn, and
        one that draws is done only when the pictures are there.
        """
        begun = self.started()
        noticed = [self.results.status, *self.generate_buttons]
        said = json.dumps([begun[each] for each in noticed])
        presses = [button.click for button in self.generate_buttons]
        gr.on(presses, None, None, noticed, js=f"() => {{ ({SHOW_RESULTS})(); return {said}; }}", **AT_ONCE)

    def connect_failure(self, failure: Callable[..., Any]) -> None:
        """Connect the failure of what a press has started: if the server has not reported on it, buttons work again.

        Args:
            failure: the event.
        """
        changed = [self.results.status, *self.generate_buttons]
        before = [status_line(Message("page.idle")), *(gr.update(interactive=True) for _ in self.generate_buttons)]
        sent = self.started()[self.results.status]
        js = (
            f"(status) => status === {json.dumps(sent)} ? {json.dumps(before)}"
            f" : {json.dumps([gr.skip() for _ in changed])}"
        )
        failure(None, self.results.status, changed, js=js, **AT_ONCE)

    def connect(
        self, press: Callable[..., Any], *, task: str, inputs: dict[str, Any], order: Order | None = None
    ) -> None:
        """Connect an event to drawing.

        Args:
            press: the event, such as a button's `click`.
            task: the tab's task.
            inputs: components by the names of the handler's arguments; their values arrive as the browser sent them.
            order: the series to draw; None for a single request.
        """
        handler = self.run(task, order)
        inputs = {**inputs, "turn": self.results.turn}
        drawing = press(handler, inputs_kwargs=inputs, outputs=self.outputs, preprocess=False, **IN_TURN)
        self.connect_failure(drawing.failure)

    def run(self, task: str, order: Order | None = None, *, tells_seed: bool = True) -> Callable[..., Iterator[Update]]:
        """Return the handler of one of the task's buttons: Generate, or that of a series.

        Args:
            task: the tab's task.
            order: as for `connect`.
            tells_seed: whether a fixed seed is mentioned in the status.
        """

        def generate(
            *,
            history: Sequence[str] = (),
            compared: Sequence[str] | None = None,
            presented: bool = False,
            turn: Turn | None = None,
            **sent: object,
        ) -> Iterator[Update]:
            sent = {name: _AS_OPENED.get(name) if value is None else value for name, value in sent.items()}
            wish = _Wish(
                order=order,
                history=history,
                compared=compared,
                presented=presented is True,
                on_set_seed=tells_seed and sent.get("seed") not in (None, RANDOM_SEED),
            )
            yield from self.in_turn(turn, lambda turn: self._begin(wish, turn, task=task, sent=sent))

        return generate

    def stop(self, turn: Turn) -> None:
        """Stop the run under way, even if it has no job yet; its own handler then reports that."""
        turn.is_stopped = True
        self.studio.cancel(turn.job)

    def in_turn(self, turn: Turn | None, begin: Callable[[Turn], Iterator[Update]]) -> Iterator[Update]:
        """Yield a run's updates as `guarded` does, unless the page has one under way already.

        Args:
            turn: the page's turn; None for a new one, where nothing else can begin.
            begin: yields the updates.
        """
        turn = turn or Turn()
        if not turn.take():
            yield {self.results.running: gr.skip()}
            return
        with ExitStack() as held, closing(self.guarded(begin(turn))) as told:
            held.callback(turn.give_back)
            for update in told:
                if update.get(self.stop_buttons[0]) == gr.update(interactive=False):
                    # Released before the page gets this update: the next press may come before this generator resumes.
                    held.close()
                yield update

    def guarded(self, updates: Iterator[Update]) -> Generator[Update]:
        """Yield a job's updates; failures are shown in the status line, and errors also as a toast."""
        try:
            yield from updates
        except Cancelled:
            yield self.finished(status_line(Message("page.stopped"), kind="done"))
        except Exception as error:
            text = explain(error)
            is_unsaved = isinstance(error, UnsavedError)
            of_input = isinstance(error, UserError) and not is_unsaved
            update = self.finished(status_line(text, kind="failed", until_changed=of_input))
            if is_unsaved:
                # The browser keeps the stored job: when the page is reloaded, its pictures are saved.
                del update[self.results.running]
            yield update
            raise gradio_error(text, is_in_status=True) from None

    def resume(
        self, running: Any, history: Sequence[str], presented: bool = False, turn: Turn | None = None
    ) -> Iterator[Update]:
        """Follow the job that was running when the page was left or reloaded.

        Args:
            running: what the browser stored, as `_follow` yields it, with "elsewhere" if it is another tab's.
            history: the files of this visit.
            presented: whether the page is in presentation mode, which shows nothing of earlier visits.
            turn: as for `in_turn`.
        """
        history = history or ([] if presented else self._from_library())
        earlier = remember(self.results, history, ()) if history else {}
        kept = _Kept.read(running)
        if kept is None or kept.presented is not presented or not self._can_follow(kept):
            yield {self.results.running: gr.skip(), **earlier}
            return
        order, begun = SERIES.get(kept.series or ""), {**self.started(), **earlier}
        wish = _Wish(order=order, history=history, presented=presented, on_set_seed=kept.on_set_seed)
        yield from self.in_turn(turn, lambda turn: chain([begun], self._follow(wish, turn, job_id=kept.job)))

    def _can_follow(self, kept: _Kept) -> bool:
        """Whether a job can be followed; another tab's job, only once that tab no longer follows it."""
        if not kept.elsewhere:
            return self.studio.can_be_followed(kept.job)
        until = time.monotonic() + _CLOSING_S
        while self.studio.knows(kept.job) and time.monotonic() < until:
            if self.studio.can_be_followed(kept.job, most=1):
                return True
            time.sleep(_REST_S)
        return False

    def _from_library(self) -> list[str]:
        """Return copies of the latest pictures of earlier visits."""
        library = self.studio.library
        return keep_files(library.newest(LONGEST_HISTORY)) if library else []

    def _begin(self, wish: _Wish, turn: Turn, *, task: str, sent: Mapping[str, object]) -> Iterator[Update]:
        yield self.started()
        with opening_turn(sent, engine=self.studio.engine):
            job_id = self._submit(build_request(task, sent), wish)
        yield from self._follow(wish, turn, job_id=job_id)

    def _follow(self, wish: _Wish, turn: Turn, *, job_id: str) -> Iterator[Update]:
        self.began(turn, job_id)
        series = next((name for name, order in SERIES.items() if order is wish.order), None)
        results, failed = [], []
        with self.studio.following(
            job_id, awaited=awaited(), newest=True, rest_s=_REST_S, patience=_PATIENCE
        ) as events:
            kept = {"job": job_id, "series": series, "presented": wish.presented, "on_set_seed": wish.on_set_seed}
            yield {self.results.running: json.dumps(kept)}
            for event in events:
                if isinstance(event, Progress):
                    yield {self.results.status: progress_line(event), **self._preview(event)}
                elif isinstance(event, FailedPart):
                    failed.append(Message("result.failed_part", series=event.title, reason=explain(event.error)))
                else:
                    results.append(event)
            yield self._pictures(wish, results, job_id=job_id, failed=failed)

    def _submit(self, request: GenerateRequest, wish: _Wish) -> str:
        if wish.order:
            adapters = adapters_named(self.studio.entry(request.model), wish.compared)
            return self.studio.submit_series(
                wish.order.parts(request, adapters), previews=True, keep=not wish.presented
            )
        return self.studio.submit(request, previews=True, keep=not wish.presented)

    def _preview(self, progress: Progress) -> Update:
        """Show the preview, if there is one; otherwise the last one stays."""
        if progress.preview is None:
            return {}
        strip = inline_picture(progress.preview, alt=Message("page.preview_label"), css_class="ipa-preview")
        return {self.results.preview: gr.update(value=strip, visible=True)}

    def started(self) -> Update:
        """Return the update that shows that a run has begun, and enables Stop."""
        busy: Update = dict.fromkeys(self.generate_buttons, gr.update(interactive=False))
        busy |= dict.fromkeys(self.stop_buttons, gr.update(interactive=True))
        return busy | {self.results.status: status_line(Message("page.starting"), kind="busy")}

    def began(self, turn: Turn, job_id: str) -> None:
        """Note the job of a run, and stop it if Stop was pressed before it existed."""
        turn.job = job_id
        if turn.is_stopped:
            self.stop(turn)

    def _pictures(
        self,
        wish: _Wish,
        results: Sequence[GenerateResult],
        *,
        job_id: str,
        failed: Sequence[Message],
    ) -> Update:
        """Save and show the results, and report why parts of a series failed."""
        order, pictures = wish.order, []
        series = [order.caption(each, self.studio.entry(each.settings["model"])) for each in results] if order else []
        for part, result in enumerate(results):
            # In a series all pictures have the same seed, and thus file name: each gets a folder.
            paths = save_pictures(result, job_id=f"{job_id}-{part}")
            pictures += zip(paths, _captions(result, series=series[part] if order else None), strict=True)
        paths = [path for path, _ in pictures]
        shown = show_pictures(
            self.results,
            pictures,
            columns=min(order.columns, len(paths)) if order else columns_for(len(paths)),
            download=save_zip(paths) if len(paths) > 1 else paths[0],
            compared=_lie_on_each_other(results, order=order),
        )
        seconds = self.studio.took(job_id)
        said = done_text(results, seconds=seconds, order=order, series=series, failed=failed)
        if note := self.studio.note_on_keeping(job_id):
            said = (*said, note)
        if wish.on_set_seed:
            said = (*said, Message("result.set_seed", seed=results[0].seeds[0]))
        done = self.finished(status_line(*said, kind="done"))
        seed = {self.results.new_seed: gr.update(visible=wish.on_set_seed)}
        return {**done, **seed, **shown, **remember(self.results, wish.history, paths)}

    def finished(self, status: str) -> Update:
        """Return the update that shows the outcome of a run."""
        idle: Update = dict.fromkeys(self.generate_buttons, gr.update(interactive=True))
        idle |= dict.fromkeys(self.stop_buttons, gr.update(interactive=False))
        gone = gr.update(value="", visible=False)
        return idle | {self.results.running: "", self.results.status: status, self.results.preview: gone}


def done_text(
    results: Sequence[GenerateResult],
    *,
    seconds: float | None,
    order: Order | None,
    series: Sequence[str],
    failed: Sequence[Message] = (),
) -> tuple[Message, ...]:
    """Return how many pictures were made, in what time if that is known, what became of the others, and the notes."""
    withheld = [seed for result in results for seed in result.withheld]
    count = sum(len(result.seeds) for result in results) - len(withheld)
    timed = None if seconds is None else Message("result.done", count=count, seconds=f"{seconds:.1f}")
    said = [timed or Message("result.done_untimed", count=count)]
    if order and not ((withheld or failed) and order.compared):
        said.insert(0, order.done(series, results[0].seeds[0]))
    said += failed
    if withheld:
        if order:
            # All have the same seed; the caption under each picture says which part it was.
            said.append(Message("result.withheld_parts", count=len(withheld)))
        else:
            said.append(Message("result.withheld_count", count=len(withheld), seeds=", ".join(map(str, withheld))))
    notes = dict.fromkeys(note for result in results for note in result.notes)
    return *said, *notes


def _lie_on_each_other(results: Sequence[GenerateResult], *, order: Order | None) -> bool:
    """Whether there are exactly two pictures to compare, neither of them withheld."""
    compared = order is not None and order.compared and len(results) == 2
    return compared and not any(result.withheld for result in results)


def _captions(result: GenerateResult, *, series: str | None) -> list[str]:
    if series is not None:
        return [Message("result.withheld_part", series=series) if result.withheld else series]
    return [
        Message("result.withheld" if seed in result.withheld else "result.seed", seed=seed) for seed in result.seeds
    ]
