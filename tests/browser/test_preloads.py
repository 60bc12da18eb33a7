"""The page's head lists for the browser everything a first visit fetches, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.browser.hands import rest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LINK = re.compile(r'<link rel="(?:modulepreload|preload)"[^>]* href="\./assets/([^"]+)">')


def test_every_script_and_style_of_a_first_visit_is_told_and_no_other(open_page: Any, page_url: str) -> None:
    fetched: list[str] = []
    page = open_page(prepare=lambda page: page.on("request", lambda request: fetched.append(request.url)))
    rest(page)
    linked = LINK.findall(httpx.get(page_url).text)
    asked = [url.split("/assets/")[1] for url in fetched if re.search(r"/assets/[^/]+\.(?:js|css)$", url)]
    entry = {name for name in asked if name.startswith("index-")}
    assert set(linked) - entry == set(asked) - entry
    assert len(asked) == len(set(asked)) > 50, "nothing is fetched twice"
