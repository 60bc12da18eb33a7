"""Visitors of a page in front of replicas, one of which is killed while it draws."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.browser.hands import RESULTS, body, enter
from tests.engine.conftest import TIMEOUT_S
from tests.tiny_models import tiny_bundle
from tests.ui.test_operations import running_app
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: requirements-cluster.txt"),
]

# Enough that drawing both takes longer than the replicas take to report.
COUNT = 8


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run `IPA_CLUSTER=local IPA_REPLICAS=2 python app.py`, then end it and check that no process is left."""
    folder = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPA_CLUSTER", "local")
        patch.setenv("IPA_REPLICAS", "2")
        # If the test fails, something may still be drawing.
        patch.setenv("IPA_FINISH_SECONDS", "1")
        with running_app(tiny_bundle(folder / "toybox"), folder / "files") as (url, app):
            yield url
            begun = psutil.Process(app.pid).children(recursive=True)
            app.send_signal(signal.SIGTERM)
            try:
                assert app.wait(TIMEOUT_S) == 0
            finally:
                _, left = psutil.wait_procs(begun, timeout=60)
                for process in left:
                    process.kill()
            assert not left


def busy(url: str) -> set[int]:
    """Return the process ids of replicas that have a request, from `/healthz`."""
    lines = httpx.get(f"{url}healthz").text.splitlines()
    found = [re.search(r"process (\d+)\).* requests: [1-9]", line) for line in lines]
    return {int(each[1]) for each in found if each and psutil.pid_exists(int(each[1]))}


def test_both_visitors_have_their_pictures_and_one_is_told(page_url: str, open_page: Any, shoot: Any) -> None:
    pages = [open_page() for _ in range(2)]
    for page in pages:
        page.click("#tab-mix-button")
        page.fill("#mix-prompt textarea", "a cat")
        page.fill("#count input[type=number]", str(COUNT))
        page.click("#more-settings > button")
        enter(page, "steps", "100")
        enter(page, "seed", "7")
    for page in pages:
        page.click("#mix-generate")
    until(lambda: len(busy(page_url)) == 2)
    os.kill(min(busy(page_url)), signal.SIGKILL)
    files = []
    for number, page in enumerate(pages):
        page.wait_for_selector("#status .ipa-done")
        assert page.locator(RESULTS).count() == COUNT
        files.append(body(page, RESULTS))
        shoot(page, str(number))
    said = [page.inner_text("#status") for page in pages]
    assert sorted("it was drawn again with the same seed" in each for each in said) == [False, True]
    assert files[0] == files[1]
