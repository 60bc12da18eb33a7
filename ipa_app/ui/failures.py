"""The one place that turns an exception into what a visitor or an API client is told."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from ipa_app.errors import Cancelled, UserError
from ipa_app.ui import texts

_log = logging.getLogger(__name__)


def explain(error: Exception) -> str:
    """Return one plain sentence for a person; a bug leaves its traceback in the log."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, Cancelled):
        return texts.STOPPED
    _log.error("A request failed", exc_info=error)
    return texts.FAILED_INSIDE


def gradio_error(text: str) -> gr.Error:
    """Wrap an explanation for Gradio, which shows messages as HTML: markup in the text is escaped."""
    return gr.Error(html.escape(text, quote=False), title=texts.FAILED_TITLE, duration=12, print_exception=False)


@contextmanager
def explained() -> Iterator[None]:
    """Let nothing but `gr.Error` out of the block."""
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        raise gradio_error(explain(error)) from None
