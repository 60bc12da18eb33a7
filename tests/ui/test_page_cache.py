"""The page is built once per address it is reached at, and is the same as Gradio's own answer."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import gradio.routes
import gradio.utils
import httpx
import pytest

from ipa_app.ui import page_cache
from ipa_app.ui.blocks import StudioBlocks
from tests.engine.conftest import TIMEOUT_S
from tests.ui.serving import served_page

ADDED = re.compile(
    r'<script>Object\.defineProperty\(navigator, [^<]*</script>|<link rel="(?:modulepreload|preload)"[^>]*>'
)


def asked(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=TIMEOUT_S)


def root_of(answer: httpx.Response) -> str:
    """Return the page's address as it states it."""
    found = re.search(r"window\.gradio_config = (\{.*?\});</script>", answer.text)
    assert found
    return json.loads(found[1])["root"]


def by_gradio(url: str) -> httpx.Response:
    """Return Gradio's own answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_cache, "_is_for_everybody", lambda _scope: False)
        return asked(url, accept_encoding="identity")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "config",
        "config/",
        "config?page=",
        "gradio_api/info",
        "gradio_api/info?page=",
        "gradio_api/info?all_endpoints=1",
    ],
)
@pytest.mark.parametrize("encoding", ["br", "gzip", "identity"])
def test_it_is_what_gradio_answers_however_it_is_compressed(app_url: str, encoding: str, path: str) -> None:
    theirs = by_gradio(f"{app_url}{path}")
    for _ in range(2):
        ours = asked(f"{app_url}{path}", accept_encoding=encoding)
        assert ours.headers.get("content-encoding", "identity") == encoding
        assert (ours.status_code, ours.headers["content-type"]) == (200, theirs.headers["content-type"])
        assert ADDED.sub("", ours.text) == theirs.text
    assert "accept-encoding" in ours.headers["vary"].lower()


def test_it_is_made_once_whatever_its_link_says(app_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page, config = (asked(f"{app_url}{path}", accept_encoding="br") for path in ("", "config"))

    def anew(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("it is made anew")

    monkeypatch.setattr(gradio.routes.templates, "TemplateResponse", anew)
    monkeypatch.setattr(gradio.utils, "safe_deepcopy", anew)
    for query in ("", "?utm=1", "?view=api&__theme=dark", "?page=x", "?deep_link=a", "?all_endpoints=1"):
        assert asked(f"{app_url}{query}", accept_encoding="br").content == page.content
        assert asked(f"{app_url}config{query}", accept_encoding="br").content == config.content
    head = httpx.head(app_url, headers={"accept-encoding": "br"}, timeout=TIMEOUT_S)
    assert (head.status_code, head.content) == (200, b"")


def test_pages_for_addresses_that_are_made_up_are_made_one_at_a_time(
    app_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, making, most = gradio.routes.templates.TemplateResponse, [0], [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        making[0] += 1
        most[0] = max(most[0], making[0])
        time.sleep(0.05)
        making[0] -= 1
        return usual(*args, **kwargs)

    monkeypatch.setattr(gradio.routes.templates, "TemplateResponse", counted)
    with ThreadPoolExecutor(6) as pool:
        hosts = [f"made-up-{number}.example" for number in range(6)]
        answers = list(pool.map(lambda host: asked(app_url, x_forwarded_host=host), hosts))
    assert [root_of(answer) for answer in answers] == [f"http://{host}" for host in hosts]
    assert most == [1]


def test_every_address_has_its_own(app_url: str) -> None:
    at_home = root_of(asked(app_url))
    assert app_url.startswith(at_home)
    proxied = asked(app_url, x_forwarded_host="pictures.example", x_forwarded_proto="https")
    assert root_of(proxied) == "https://pictures.example"
    for number in range(20):
        assert root_of(asked(app_url, x_forwarded_host=f"host-{number}.example")) == f"http://host-{number}.example"
    assert root_of(asked(app_url)) == at_home


def test_a_page_with_a_login_is_nobody_elses() -> None:
    with StudioBlocks(analytics_enabled=False) as page:
        gr.Textbox(label="A secret")
    with served_page(page, auth=("me", "word")) as url:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
            client.post("/login", data={"username": "me", "password": "word"}).raise_for_status()
            assert "A secret" in client.get("/").text
        assert "A secret" not in asked(url).text
