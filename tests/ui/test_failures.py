"""What visitors are told of a failure, and what of it is logged."""

from __future__ import annotations

import errno
import logging

import gradio as gr
import pytest

from ipa_app.errors import UserError
from ipa_app.ui.failures import explain, explained


def test_a_bug_leaves_its_place_in_the_log_and_little_of_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        try:
            int("sent" * 10**6 + "\nsecret")
        except ValueError as error:
            assert "inside the app" in explain(error)
    assert "ValueError" in caplog.text
    assert "test_failures.py" in caplog.text
    assert len(caplog.text) < 2000


def test_a_full_disk_is_named_in_the_log_without_what_the_file_is_called(caplog: pytest.LogCaptureFixture) -> None:
    explain(OSError(errno.ENOSPC, "No space left on device", "/uploads/secret.png"))
    assert "No space left on device (/uploads)" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(("to_program", "shown"), [(True, "<b>dream</b>"), (False, "&lt;b&gt;dream&lt;/b&gt;")])
def test_what_somebody_typed_is_html_nowhere_and_plain_for_programs(to_program: bool, shown: str) -> None:
    with pytest.raises(gr.Error) as told, explained(to_program=to_program):
        raise UserError("model.unknown", name="<b>dream</b>", names="toybox")
    assert shown in told.value.message
    assert to_program or "<b>" not in told.value.message
