"""The one place that turns exceptions into sentences for visitors and API clients."""

from __future__ import annotations

import errno
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr

from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message
from ipa_app.ui.language.markup import said_in_toast

_log = logging.getLogger(__name__)

_FULL = {errno.ENOSPC, errno.EDQUOT}
_LONGEST_LINE = 300
"""In the log. An error may quote what somebody sent, which can be of any length, and does not belong in the log."""


def explain(error: Exception) -> Message:
    """Return one plain sentence for the user; a bug leaves its traceback in the log."""
    if isinstance(error, UserError):
        return error.message
    if isinstance(error, Cancelled):
        return Message("page.stopped")
    if isinstance(error, OSError) and is_disk_full(error):
        _log.error("The disk is full: %s (%s)", error.strerror, Path(str(error.filename or "")).parent)
        return Message("page.disk_full")
    _log.error("A request failed\n%s", _traced(error))
    return Message("page.failed_inside")


def _traced(error: Exception) -> str:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…" for line in lines)


def explain_to_program(error: Exception) -> str:
    """Return one plain sentence that names the parameter to blame by its API name."""
    text = explain(error)
    field = error.field if isinstance(error, UserError) else None
    subject = re.split(" is |;", text)[0]
    return str(text) if field is None or re.search(rf"\b{field}\b", subject) else f"{field}: {text}"


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk, or the user's quota, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def gradio_error(message: Message, *, is_in_status: bool = False) -> gr.Error:
    """Wrap a message for the page, which shows it as HTML and can translate it.

    Args:
        message: the message.
        is_in_status: whether the status line says it, too; on a small screen that is enough while it is in sight.
    """
    return _error(said_in_toast(message, css_class="ipa-in-status" if is_in_status else ""))


def _error(told: str) -> gr.Error:
    return gr.Error(told, title=Message("page.failed_title"), duration=12, print_exception=False)


@contextmanager
def explained(*, to_program: bool = False) -> Iterator[None]:
    """Turn every exception that leaves the block into a `gr.Error`.

    Args:
        to_program: whether the error goes to a program, which needs API parameter names.
    """
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        # Programs get plain text; nobody shows it as HTML.
        raise (_error(explain_to_program(error)) if to_program else gradio_error(explain(error))) from None


@contextmanager
def written() -> Iterator[None]:
    """Do as `explained` does, for a block that writes to the library: failing to write is a `UserError`."""
    with explained():
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise
            raise UserError("library.not_changed", reason=error.strerror or str(error)) from error
