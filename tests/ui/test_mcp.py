"""Language models get the public endpoints as tools, and nothing else of the page."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from ipa_app.errors import Cancelled
from ipa_app.ui import addresses
from ipa_app.ui.allowance import Spend
from tests.engine.conftest import TIMEOUT_S
from tests.ui.promised_api import PROMISED, REQUIRED
from tests.ui.serving import served, served_engine
from tests.ui.test_giving_up import LONG


@pytest.fixture(scope="module")
def mcp_url(tiny_bundle_dir: Path) -> Iterator[str]:
    with served(tiny_bundle_dir, mcp_server=True) as url:
        yield f"{url}gradio_api/mcp/"


def ask(url: str, question: Callable[[ClientSession], Awaitable[Any]], *, source: str = "127.0.0.1") -> Any:
    """Ask the MCP server something, from a given address of this machine."""

    async def talk() -> Any:
        transport = httpx.AsyncHTTPTransport(local_address=source)
        async with (
            httpx.AsyncClient(transport=transport, timeout=TIMEOUT_S, follow_redirects=True) as http,
            streamable_http_client(url, http_client=http) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await question(session)

    return asyncio.run(talk())


def test_the_tools_are_the_public_endpoints(mcp_url: str) -> None:
    tools = {tool.name: tool for tool in ask(mcp_url, lambda session: session.list_tools()).tools}
    assert set(tools) == {"variation", "mix", "inpaint", "pose", "models"}
    assert tools["mix"].inputSchema["properties"]["scale"]["default"] == 0.6
    assert "plain text-to-image" in tools["mix"].description
    assert "Args" not in tools["mix"].description


def test_every_parameter_of_a_tool_is_described_with_its_default(mcp_url: str) -> None:
    for tool in ask(mcp_url, lambda session: session.list_tools()).tools:
        told = tool.inputSchema["properties"]
        assert all(each["description"] for each in told.values()), tool.name
        values = {name: default for name, default in PROMISED[f"/{tool.name}"].items() if name in told}
        defaults = {name: value for name, value in values.items() if value is not None and value is not REQUIRED}
        assert {name: each["default"] for name, each in told.items() if "default" in each} == defaults


async def told_of_progress(*_: Any) -> None:
    """Ignore progress; a callback for it makes Gradio answer in a different way."""


@pytest.mark.parametrize("progress", [None, told_of_progress])
def test_a_picture_goes_in_and_a_picture_with_its_settings_comes_out(
    mcp_url: str, pictures: dict[str, str], progress: Any
) -> None:
    data = base64.b64encode(Path(pictures["plain.png"]).read_bytes()).decode()
    arguments = {"reference": f"data:image/png;base64,{data}", "adapter": "fine", "seed": 5, "count": 2}
    answer = ask(mcp_url, lambda session: session.call_tool("variation", arguments, progress_callback=progress))
    assert not answer.isError, answer.content
    first, address, second, _, told = answer.content
    assert {first.mimeType, second.mimeType} == {"image/png"}
    assert base64.b64decode(first.data) != base64.b64decode(second.data)
    assert httpx.get(address.text.removeprefix("Image URL: ")).content == base64.b64decode(first.data)
    settings = json.loads(told.text)
    assert settings["seeds"] == [5, 6]
    assert settings["references"] != []


def test_models_are_listed_as_json(mcp_url: str) -> None:
    answer = ask(mcp_url, lambda session: session.call_tool("models", {}))
    (told,) = answer.content
    assert "toybox" in json.loads(told.text)


def test_the_address_of_an_upload_is_as_good_as_the_picture(mcp_url: str, pictures: dict[str, str]) -> None:
    app = mcp_url.removesuffix("gradio_api/mcp/")
    data = Path(pictures["plain.png"]).read_bytes()
    (path,) = httpx.post(f"{app}gradio_api/upload", files={"files": ("a b.png", data)}).json()
    arguments = {"reference": f"{app}gradio_api/file={path}", "seed": 5}
    answer = ask(mcp_url, lambda session: session.call_tool("variation", arguments))
    assert not answer.isError, answer.content


def counted(model: Path, arguments: dict[str, str]) -> list[bool]:
    """Call a tool twice from one address and once from another; return which calls were refused for the 1 MB limit."""
    with served(model, mcp_server=True, server_name="0.0.0.0") as address:
        url = f"http://127.0.0.1:{httpx.URL(address).port}/gradio_api/mcp/"
        answers = [
            ask(url, lambda session: session.call_tool("variation", arguments), source=f"127.0.0.{host}")
            for host in (2, 2, 3)
        ]
    return [
        "1 MB have been uploaded from your network address within an hour" in answer.content[0].text
        for answer in answers
    ]


def test_what_is_fetched_counts_for_who_called_the_tool(monkeypatch: pytest.MonkeyPatch, tiny_bundle_dir: Path) -> None:
    async def content(_address: str, spend: Spend) -> bytes:
        spend(600_000)
        return b"no picture"

    monkeypatch.setattr(addresses, "_content", content)
    monkeypatch.setenv("IPA_UPLOAD_MEGABYTES", "1")
    arguments = {"reference": "http://pictures.example/a.png"}
    assert counted(tiny_bundle_dir, arguments) == [False, True, False]


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_what_is_sent_counts_for_who_called_the_tool(monkeypatch: pytest.MonkeyPatch, tiny_bundle_dir: Path) -> None:
    monkeypatch.setenv("IPA_UPLOAD_MEGABYTES", "1")
    arguments = {"reference": data_url(bytes(600_000))}
    assert counted(tiny_bundle_dir, arguments) == [False, True, False]


def test_a_picture_for_which_there_was_no_room_is_taken_when_there_is(
    mcp_url: str, pictures: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"reference": data_url(Path(pictures["plain.png"]).read_bytes() + b"of its own"), "seed": 5}

    def no_room(size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(addresses, "check_room", no_room)
        answer = ask(mcp_url, lambda session: session.call_tool("variation", arguments))
    assert (answer.isError, "disk" in answer.content[0].text) == (True, True)
    answer = ask(mcp_url, lambda session: session.call_tool("variation", arguments))
    assert not answer.isError, answer.content


def test_words_that_begin_as_a_data_url_are_words(mcp_url: str) -> None:
    arguments = {"prompt": "data: a bear", "steps": 1}
    answer = ask(mcp_url, lambda session: session.call_tool("mix", arguments))
    assert not answer.isError, answer.content


def posted(url: str, tool: str, arguments: str) -> httpx.Response:
    """Send a call as raw text, as no MCP client library would."""
    params = f'{{"name": "{tool}", "arguments": {arguments}}}'
    call = f'{{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {params}}}'
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    return httpx.post(url, content=call, headers=headers, timeout=TIMEOUT_S)


@pytest.mark.parametrize(
    ("written", "told"), [("NaN", "scale is nan"), ("-Infinity", "scale is -inf"), ("1e999", "scale is inf")]
)
def test_what_is_no_number_is_refused_and_not_taken_for_nothing(mcp_url: str, written: str, told: str) -> None:
    answer = posted(mcp_url, "mix", f'{{"prompt": "a bear", "scale": {written}}}')
    assert f"{told}; it must be a number" in answer.text


def test_a_tool_takes_pictures_of_more_than_the_mcp_library_would(mcp_url: str) -> None:
    answer = posted(mcp_url, "variation", json.dumps({"reference": data_url(bytes(5 * 10**6))}))
    assert answer.status_code == 200
    assert "reference: This file cannot be opened" in answer.text


NAMED = {
    "missing": ("mix", {}, "prompt is missing; mix takes prompt, reference, adapter"),
    "unknown": ("mix", {"prompt": "a bear", "cfg": 3}, "no parameter 'cfg'; mix takes prompt, reference, adapter"),
    "text": ("mix", {"prompt": "a bear", "steps": "many"}, "steps is 'many'; it must be a whole number"),
    "list": ("mix", {"prompt": "a bear", "scale": [1]}, "scale is [1]; it must be a number"),
    "half": ("mix", {"prompt": "a bear", "seed": 1.5}, "seed is 1.5; it must be a whole number"),
    "choice": ("mix", {"prompt": "a bear", "view": "half"}, "view is 'half'; it must be crop or pad or stretch or"),
    "path": ("variation", {"reference": "/etc/hostname"}, "reference is '/etc/hostname'; it must be the http or"),
    "no picture": ("variation", {"reference": None}, "reference is missing"),
    "no address": ("variation", {"reference": "http://127.0.0.1:1/a.png"}, "reference could not be fetched"),
    "no data": ("variation", {"reference": "data:image/png;base64,QUJD"}, "reference: This file cannot be opened"),
    "no base64": ("variation", {"reference": "data:,hello"}, "reference is 'data:,hello'; it must be a data URL in"),
    "sloppy": ("variation", {"reference": "data:image/png;base64,!!!!"}, "it must be a data URL in base64"),
    "capitals": ("variation", {"reference": "HTTP://127.0.0.1:1/a.png"}, "reference could not be fetched"),
    "nothing taken": ("models", {"all": True}, "/models takes no parameters"),
}


@pytest.mark.parametrize("case", NAMED)
def test_whatever_is_wrong_with_a_call_names_the_parameter(mcp_url: str, case: str) -> None:
    tool, arguments, told = NAMED[case]
    answer = ask(mcp_url, lambda session: session.call_tool(tool, arguments))
    assert answer.isError
    assert told in answer.content[0].text
    assert answer.content[0].text.endswith(".")
    assert "/gradio_api/call" not in answer.content[0].text


def test_null_is_as_good_as_nothing(mcp_url: str) -> None:
    arguments = {"prompt": "a bear", "seed": 3, "steps": None, "reference": None}
    answer = ask(mcp_url, lambda session: session.call_tool("mix", arguments))
    assert not answer.isError, answer.content


@pytest.mark.parametrize("mask", [{}, {"mask": None}])
def test_a_picture_is_extended_without_a_mask(mcp_url: str, pictures: dict[str, str], mask: dict[str, None]) -> None:
    data = base64.b64encode(Path(pictures["plain.png"]).read_bytes()).decode()
    image = {"image": f"data:image/png;base64,{data}"}
    answer = ask(mcp_url, lambda session: session.call_tool("inpaint", {**image, **mask, "extend_right": 25}))
    assert not answer.isError, answer.content
    answer = ask(mcp_url, lambda session: session.call_tool("inpaint", image))
    assert "There is no mask" in answer.content[0].text


def test_a_client_that_hangs_up_ends_the_drawing(tiny_bundle_dir: Path) -> None:
    async def call_and_leave(session: ClientSession) -> None:
        call = asyncio.ensure_future(session.call_tool("mix", LONG))
        while not engine.jobs:
            await asyncio.sleep(0.05)
        call.cancel()

    with served_engine(tiny_bundle_dir, mcp_server=True) as (url, engine):
        engine.manager.get("toybox", TIMEOUT_S)
        ask(f"{url}gradio_api/mcp/", call_and_leave)
        with pytest.raises(Cancelled):
            engine.jobs[0].result(TIMEOUT_S)


def test_what_cannot_be_used_is_said_in_words(mcp_url: str) -> None:
    answer = ask(mcp_url, lambda session: session.call_tool("mix", {"prompt": "a bear", "count": 99}))
    assert answer.isError
    assert "count: “How many pictures”" in answer.content[0].text
