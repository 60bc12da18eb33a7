"""Signals become a request to stop, a second Ctrl-C ends the process; ignored signals stay ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ipa_app.training.stopping import MESSAGE, StopSignals

ROOT = Path(__file__).parents[2]
SEVERAL = [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


@pytest.mark.parametrize("name", SEVERAL)
def test_a_signal_is_answered_and_said(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    number = getattr(signal, name)
    # The test process may ignore it, as under nohup.
    handler = signal.signal(number, signal.SIG_DFL)
    try:
        with StopSignals() as stop:
            assert not stop()
            signal.raise_signal(number)
            assert stop()
            assert stop.exit_code == 128 + number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, handler)
    assert capfd.readouterr().err == MESSAGE


def test_one_ctrl_c_that_a_launcher_passes_on_is_still_one(capfd: pytest.CaptureFixture[str]) -> None:
    with StopSignals() as stop:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert stop()
    assert capfd.readouterr().err == MESSAGE


def test_processes_other_than_the_main_one_say_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with StopSignals(tell=False) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="nohup is Unix's")
def test_what_was_started_to_ignore_a_signal_still_does() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_signals_stay_as_they_are() -> None:
    answers = []

    def enter() -> None:
        with StopSignals() as stop:
            answers.append(stop())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert answers == [False]


@pytest.mark.skipif(os.name == "nt", reason="a signal cannot be sent to one process alone")
def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    program = (
        "import signal, time\n"
        "from ipa_app.training import stopping\n"
        "stopping.SAME_SECONDS = 0\n"
        "with stopping.StopSignals():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    time.sleep(0.01)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stdout == ""
    assert done.stderr == MESSAGE
