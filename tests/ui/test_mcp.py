"""Language models are given the public endpoints as tools, and nothing else of the page."""

from __future__ import annotations

import ast
import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from tests.ui.serving import served


@pytest.fixture(scope="module")
def mcp_url(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tiny_bundle_dir, temporary=tmp_path_factory.mktemp("gradio"), mcp_server=True) as url:
        yield f"{url}gradio_api/mcp/"


def ask(url: str, question: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    async def talk() -> Any:
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return await question(session)

    # In a thread of its own: the browser tests leave an event loop in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, talk()).result()


def test_the_tools_are_the_public_endpoints(mcp_url: str) -> None:
    tools = {tool.name: tool for tool in ask(mcp_url, lambda session: session.list_tools()).tools}
    assert set(tools) == {"variation", "mix", "inpaint", "pose", "models"}
    assert tools["mix"].inputSchema["properties"]["scale"]["default"] == 0.6
    assert "plain text-to-image" in tools["mix"].description


def test_a_picture_goes_in_and_a_picture_with_its_settings_comes_out(mcp_url: str, pictures: dict[str, str]) -> None:
    data = base64.b64encode(Path(pictures["plain.png"]).read_bytes()).decode()
    arguments = {"reference": f"data:image/png;base64,{data}", "adapter": "fine", "seed": 5}
    answer = ask(mcp_url, lambda session: session.call_tool("variation", arguments))
    assert not answer.isError, answer.content
    files, settings = ast.literal_eval(answer.content[0].text)
    assert files[0]["url"].startswith("http")
    assert settings["seeds"] == [5]
    assert settings["references"] != []


def test_what_cannot_be_used_is_said_in_words(mcp_url: str) -> None:
    answer = ask(mcp_url, lambda session: session.call_tool("mix", {"prompt": "a bear", "count": 99}))
    assert answer.isError
    assert "The count" in answer.content[0].text
