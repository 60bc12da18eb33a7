"""What happens between Generate and the pictures, step by step, as updates of the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.errors import Cancelled
from ipa_app.ui import texts
from ipa_app.ui.failures import explain, gradio_error
from ipa_app.ui.form import build_request
from ipa_app.ui.results import ResultsPanel, show_pictures
from ipa_app.ui.status import progress_line, status_line
from ipa_app.ui.studio import Studio, save_pictures
from ipa_app.ui.tabs.shared import TaskTab

Update = dict[Any, Any]


class Runner:
    """The page's side of a job: it starts one and turns its events into updates of the page."""

    def __init__(self, *, studio: Studio, results: ResultsPanel, tabs: Sequence[TaskTab]) -> None:
        self.studio = studio
        self.results = results
        self.generate_buttons = [tab.generate for tab in tabs]
        self.stop_buttons = [tab.stop for tab in tabs]

    @property
    def outputs(self) -> list[Any]:
        """Every component that an update may name."""
        results = self.results
        return [
            results.status,
            results.nothing,
            results.gallery,
            results.details,
            results.settings,
            results.job,
            *self.generate_buttons,
            *self.stop_buttons,
        ]

    def run(self, task: str) -> Callable[..., Iterator[Update]]:
        """Return the handler of the task's Generate button."""

        def generate(
            *,
            reference: Any,
            second_reference: Any,
            guidance: Any,
            mask: Any = None,
            painted: Any = None,
            **values: Any,
        ) -> Iterator[Update]:
            values.update(references=(reference, second_reference), guidance_scale=guidance, mask=mask or painted)
            yield from self._guarded(task=task, **values)

        return generate

    def stop(self, job_id: str | None) -> None:
        """Stop the visitor's job; its own handler then says so on the page."""
        self.studio.cancel(job_id)

    def _guarded(self, **values: Any) -> Iterator[Update]:
        """Run the request; whatever goes wrong is said in the status line, and errors in a message as well."""
        try:
            yield from self._updates(**values)
        except Cancelled:
            yield self._finished(status_line(texts.STOPPED, kind="done"))
        except Exception as error:
            text = explain(error)
            yield self._finished(status_line(text, kind="failed"))
            raise gradio_error(text) from None

    def _updates(self, **values: Any) -> Iterator[Update]:
        began = time.monotonic()
        yield self._started()
        job_id = self.studio.submit(build_request(**values))
        yield {self.results.job: job_id}
        for event in self.studio.follow(job_id):
            if isinstance(event, Progress):
                yield {self.results.status: progress_line(event)}
            else:
                yield self._pictures(event, job_id=job_id, seconds=time.monotonic() - began)

    def _started(self) -> Update:
        busy: Update = dict.fromkeys(self.generate_buttons, gr.update(interactive=False))
        busy |= dict.fromkeys(self.stop_buttons, gr.update(interactive=True))
        return busy | {self.results.status: status_line(texts.STARTING, kind="busy"), self.results.job: None}

    def _pictures(self, result: GenerateResult, *, job_id: str, seconds: float) -> Update:
        paths = save_pictures(result, job_id=job_id)
        text = texts.DONE_ONE if len(paths) == 1 else texts.DONE_MANY
        done = self._finished(status_line(text.format(count=len(paths), seconds=seconds), kind="done"))
        return done | show_pictures(self.results, paths, result=result)

    def _finished(self, status: str) -> Update:
        idle: Update = dict.fromkeys(self.generate_buttons, gr.update(interactive=True))
        idle |= dict.fromkeys(self.stop_buttons, gr.update(interactive=False))
        return idle | {self.results.status: status, self.results.job: None}
