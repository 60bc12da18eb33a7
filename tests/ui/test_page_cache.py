"""The page is made once for everybody who reaches it at an address, and is what Gradio would have answered."""

from __future__ import annotations

import json
import re
from typing import Any

import gradio as gr
import gradio.routes
import httpx
import pytest

from ipa_app.ui.blocks import StudioBlocks
from tests.engine.conftest import TIMEOUT_S
from tests.ui.serving import served_page

LINK = re.compile(r'<link rel="(?:modulepreload|preload)"[^>]*>')


def asked(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=TIMEOUT_S)


def root_of(answer: httpx.Response) -> str:
    """The address of the page as it says itself."""
    found = re.search(r"window\.gradio_config = (\{.*?\});</script>", answer.text)
    assert found
    return json.loads(found[1])["root"]


@pytest.mark.parametrize("encoding", ["br", "gzip", "identity"])
def test_it_is_what_gradio_answers_however_it_is_compressed(app_url: str, encoding: str) -> None:
    # What has a query is answered by Gradio itself.
    theirs = asked(f"{app_url}?view=", accept_encoding="identity")
    for _ in range(2):
        ours = asked(app_url, accept_encoding=encoding)
        assert ours.headers.get("content-encoding", "identity") == encoding
        assert (ours.status_code, ours.headers["content-type"]) == (200, theirs.headers["content-type"])
        assert LINK.sub("", ours.text) == theirs.text
    assert "accept-encoding" in ours.headers["vary"].lower()


def test_it_is_made_once(app_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked(app_url, accept_encoding="br")

    def anew(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("the page is made anew")

    monkeypatch.setattr(gradio.routes.templates, "TemplateResponse", anew)
    assert asked(app_url, accept_encoding="br").content == first.content


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
