"""URLs in place of pictures: what is fetched and from whom, and what is not."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
import safehttpx
from gradio.block_function import BlockFunction
from gradio.utils import get_upload_folder
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import encode_file_path

from ipa_app.errors import UserError
from ipa_app.runtime import begin_log
from ipa_app.ui import addresses
from ipa_app.ui.allowance import Allowance, Spend, SpentError, set_spend
from ipa_app.ui.blocks import StudioBlocks
from ipa_app.ui.uploads import LARGEST_PICTURE
from tests.engine.conftest import TIMEOUT_S
from tests.ui.serving import served

PICTURE = b"a picture"
NOT_FETCHED = "could not be fetched"


class Site(BaseHTTPRequestHandler):
    """Answers by the path requested."""

    def do_GET(self) -> None:
        """Answer the request; "/endless" never ends."""
        asked: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/a.png": (200, {}, PICTURE),
            "/moved": (302, {"Location": "/a.png"}, b""),
            "/round": (302, {"Location": "/round"}, b""),
            "/to-a-file": (302, {"Location": "file:///etc/hostname"}, b""),
            "/inside": (302, {"Location": "http://localhost/a.png"}, b""),
            "/large": (200, {}, bytes(600_000)),
            "/packed": (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(1000))),
            "/endless": (200, {}, b""),
        }
        status, headers, body = asked.get(self.path.partition("?")[0], (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        while self.path == "/endless":
            try:
                self.wfile.write(bytes(2**20))
            except OSError:
                return

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a site that counts as public; everything else is treated as usual."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    usual, host = addresses._transport, f"http://127.0.0.1:{server.server_port}"

    async def transport(address: str) -> Any:
        return None if address.lower().startswith(host) else await usual(address)

    monkeypatch.setattr(addresses, "_transport", transport)
    yield host
    server.shutdown()
    server.server_close()


def brought(value: Any, *, spend: Spend | None = None) -> Any:
    async def bring() -> Any:
        if spend:
            set_spend(spend)
        return await addresses.Fetching().brought(value, field="reference")

    return asyncio.run(bring())


@pytest.mark.parametrize("path", ["a.png", "moved"])
def test_what_is_behind_an_address_comes_as_an_uploaded_file(site: str, path: str) -> None:
    sent = brought({"path": f"{site}/{path}", "meta": {}})
    assert Path(sent["path"]).read_bytes() == PICTURE
    assert sent["meta"] == {}


def test_capital_letters_of_an_address_are_as_good(site: str) -> None:
    assert Path(brought({"path": f"HTTP{site[4:]}/a.png"})["path"]).read_bytes() == PICTURE


def test_an_address_does_not_come_into_the_log(site: str, caplog: pytest.LogCaptureFixture) -> None:
    begin_log()
    with caplog.at_level(logging.INFO):
        brought({"path": f"{site}/a.png?key=secret"})
    assert "secret" not in caplog.text


@pytest.mark.parametrize("scheme", ["data", "DATA"])
def test_what_a_data_url_holds_comes_as_an_uploaded_file(scheme: str) -> None:
    url = f"{scheme}:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    assert Path(brought({"path": url})["path"]).read_bytes() == PICTURE


def test_lines_and_signs_that_addresses_write_otherwise_are_as_good_in_a_data_url() -> None:
    told = base64.encodebytes(PICTURE * 20).decode().replace("=", "%3D")
    assert Path(brought({"path": f"data:image/png;base64,{told}"})["path"]).read_bytes() == PICTURE * 20


def test_a_file_that_is_sent_again_stays_whole_for_who_is_reading_it() -> None:
    data = bytes(range(256)) * 4000
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    path = Path(brought({"path": url})["path"])
    with path.open("rb") as reader:
        begin = reader.read(1000)
        assert brought({"path": url})["path"] == str(path)
        assert begin + reader.read() == data
        inode = path.stat().st_ino
        assert inode != os.fstat(reader.fileno()).st_ino  # another file has replaced it atomically


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,!!!!", "data:,hello", "data:text/plain,aGVsbG8=", "data:image/png;base64,a", "data:"]
)
def test_what_a_data_url_must_be_is_said(url: str) -> None:
    with pytest.raises(UserError, match="^reference is 'data:.*; it must be a data URL in base64"):
        brought({"path": url})


@pytest.mark.parametrize("path", ["gone", "round", "to-a-file", "inside", "packed"])
def test_what_cannot_or_must_not_be_had_is_refused(site: str, path: str) -> None:
    with pytest.raises(UserError, match=NOT_FETCHED):
        brought({"path": f"{site}/{path}"})


def test_what_is_fetched_counts_as_uploaded(site: str) -> None:
    spend = partial(Allowance(3 * len(PICTURE)).spend, "10.0.0.1")
    embedded = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    for path in (f"{site}/a.png", f"{site}/moved", embedded):
        brought({"path": path}, spend=spend)
    for path in (f"{site}/a.png", embedded):
        with pytest.raises(
            SpentError, match="have been uploaded from your network address within an hour, which is the limit"
        ):
            brought({"path": path}, spend=spend)


@pytest.mark.parametrize("others", [False, True])
def test_others_have_so_much_fetched_and_uploaded_an_hour(
    site: str, monkeypatch: pytest.MonkeyPatch, tiny_bundle_dir: Path, others: bool
) -> None:
    monkeypatch.setenv("IPA_UPLOAD_MEGABYTES", "1")
    with served(tiny_bundle_dir, server_name="0.0.0.0" if others else "127.0.0.1") as address:
        url = f"http://127.0.0.1:{httpx.URL(address).port}/"
        client = Client(url, verbose=False)
        told = ["This file cannot be opened", "1 MB have been uploaded" if others else "This file cannot be opened"]
        for each in told:
            with pytest.raises(AppError, match=each):
                client.predict(handle_file(f"{site}/large"), api_name="/variation")
        files = {"files": ("a.png", bytes(600_000))}
        answer = httpx.post(f"{url}gradio_api/upload", files=files, timeout=TIMEOUT_S)
        assert answer.status_code == (429 if others else 200)


def test_what_never_ends_is_given_up(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=f"too large: it may be at most {LARGEST_PICTURE // 10**6} MB"):
        brought({"path": f"{site}/endless"})
    monkeypatch.setattr(addresses, "LARGEST_PICTURE", 10**12)
    monkeypatch.setattr(addresses, "_LONGEST_S", 0.2)
    with pytest.raises(UserError, match=NOT_FETCHED):
        brought({"path": f"{site}/endless"})


@pytest.mark.parametrize("number", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "[::1]"])
def test_nobody_but_public_machines_is_asked(number: str) -> None:
    with pytest.raises(UserError, match=f"{NOT_FETCHED}: .* is not publicly reachable"):
        brought({"path": f"http://{number}:1/a.png"})


def test_a_public_name_leads_to_no_carrier_s_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(_: str) -> str:
        return "100.64.0.1"

    monkeypatch.setattr(safehttpx, "async_validate_url", found)
    with pytest.raises(ValueError, match="public"):
        asyncio.run(addresses._transport("http://pictures.example/a.png"))


def test_the_address_of_an_upload_is_the_upload() -> None:
    Path(get_upload_folder()).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=get_upload_folder(), suffix=" a%20é.png") as file:
        for name in ("http://127.0.0.1:7860", "https://somewhere.example/under"):
            address = f"{name}/gradio_api/file={encode_file_path(file.name)}"
            assert brought({"path": address, "url": address})["path"] == file.name


@pytest.mark.parametrize("path", ["/etc/hostname", "{uploads}/../../../../../../etc/hostname", "{uploads}/gone", ""])
def test_an_address_leads_to_no_other_file_of_this_machine(path: str) -> None:
    with pytest.raises(UserError, match=NOT_FETCHED):
        brought({"path": f"http://127.0.0.1:1/gradio_api/file={path.format(uploads=get_upload_folder())}"})


def test_what_only_the_page_calls_takes_no_addresses(site: str) -> None:
    with StudioBlocks(analytics_enabled=False) as page:
        image = gr.Image()
        image.change(lambda _: None, image, None, api_visibility="private", preprocess=False)
    (function,) = (each for each in page.fns.values() if isinstance(each, BlockFunction))
    sent = [{"path": f"{site}/a.png", "meta": {"_type": "gradio.FileData"}}]
    with pytest.raises(UserError, match="was not uploaded here"):
        asyncio.run(page.preprocess_data(function, sent, None))
