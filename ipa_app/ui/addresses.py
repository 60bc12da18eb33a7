"""Pictures that programs send as URLs: web addresses, which are fetched here, and data URLs.

Gradio would accept any content of any size, and decompress it.

The sender of a URL decides what this machine connects to. So only public hosts are contacted, which is checked again at
every redirect, as in Gradio: the name is resolved once, and the connection goes to that address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import posixpath
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import safehttpx
from gradio.processing_utils import PUBLIC_HOSTNAME_WHITELIST, hash_bytes
from gradio.utils import get_upload_folder
from gradio_client.utils import strip_invalid_filename_characters

from ipa_app.errors import UserError
from ipa_app.models.units import size_text
from ipa_app.runtime import written_whole
from ipa_app.ui.allowance import Spend, SpentError, spend
from ipa_app.ui.failures import is_disk_full
from ipa_app.ui.uploads import (
    LARGEST_PICTURE,
    check_room,
    embedded_file,
    input_name,
    is_address,
    is_data_url,
    served_address,
    served_file,
)

_MOST_AT_ONCE = 4
_MOST_REDIRECTS = 5
_LONGEST_S = 30.0
_LONGEST_SHOWN = 200


class NotPublicError(ValueError):
    """A URL does not lead to a public host; this does not tell whether the host exists."""


class TooLargeError(ValueError):
    """The file at a URL is larger than a picture may be."""


class Fetching:
    """Fetches files, a few at a time."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_MOST_AT_ONCE)

    async def brought(self, value: Any, *, field: str) -> Any:
        """Return an input's value with the URL replaced by a local file.

        Args:
            value: the value of one input, of any content.
            field: the input's name for the message.

        Raises:
            UserError: the file cannot be fetched, or is larger than a picture may be.
            SpentError: its sender has uploaded too much lately.
        """
        path = value.get("path") if isinstance(value, dict) else None
        if not isinstance(path, str):
            return value
        if is_data_url(path):
            return {**value, "path": _embedded(path, field=field)}
        if is_address(path):
            return {**value, "path": served_file(path) or await self._file(path, field=field)}
        return value

    async def _file(self, address: str, *, field: str) -> str:
        try:
            async with self._turns:
                data = await asyncio.wait_for(_content(address, spend()), _LONGEST_S)
            return _saved(data, posixpath.basename(urlsplit(address).path))
        except SpentError:
            raise
        except TooLargeError as error:
            size = size_text(LARGEST_PICTURE)
            raise UserError("upload.too_large", name=input_name(field), size=size).blaming(field) from error
        except Exception as error:
            if is_disk_full(error):
                raise
            key = "upload.not_public" if isinstance(error, NotPublicError) else "upload.not_fetched"
            shown = address if len(address) <= _LONGEST_SHOWN else f"{address[:_LONGEST_SHOWN]}…"
            raise UserError(key, name=input_name(field), address=shown).blaming(field) from error


def kept_here(url: str, *, field: str) -> str:
    """Save the content of a data URL among the uploads, and return a URL for it that only this app understands.

    Args:
        url: a data URL, as `is_data_url` recognises it.
        field: the input's name for the message.

    Raises:
        UserError: it is not in base64.
        SpentError: its sender has uploaded too much lately.
        OSError: there is no room for it.
    """
    return served_address(_embedded(url, field=field))


def _embedded(url: str, *, field: str) -> str:
    data = embedded_file(url, field=field)
    spend()(len(data))
    return _saved(data, "file")


def _saved(data: bytes, name: str) -> str:
    """Save a file among the uploads, in a folder named by the hash of its content, and return its path.

    Raises:
        OSError: there is no room for it.
    """
    check_room(len(data))
    folder = Path(get_upload_folder()).absolute() / hash_bytes(data)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (strip_invalid_filename_characters(name) or "file")
    # Another call may be reading the same file, or writing it.
    with written_whole(path, by_many=True) as part:
        part.write_bytes(data)
    return str(path)


async def _content(address: str, spend: Spend) -> bytes:
    """Return the content of a URL, following redirects, and count the bytes as they arrive.

    Raises:
        Exception: it cannot be fetched; any exception that networks and servers can cause.
    """
    for _ in range(_MOST_REDIRECTS + 1):
        async with (
            httpx.AsyncClient(transport=await _transport(address)) as client,
            client.stream("GET", address, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if not response.has_redirect_location:
                return await _read(response, spend)
            address = urljoin(address, response.headers["Location"])
    raise ValueError("too many redirects")


async def _transport(address: str) -> httpx.AsyncBaseTransport | None:
    """Return a transport that connects only to the address that a URL's host was resolved to; None for trusted hosts.

    Raises:
        NotPublicError: the host is not public.
        ValueError: this is not a web address.
    """
    host = httpx.URL(address).host
    if not is_address(address) or not host:
        raise ValueError("no web address")
    if safehttpx.matches_domain_whitelist(host, PUBLIC_HOSTNAME_WHITELIST):
        return None
    try:
        number = await safehttpx.async_validate_url(host)
    except ValueError as error:
        raise NotPublicError("not a public address") from error
    # Carrier-grade NAT addresses (100.64.0.0/10) are neither private nor global.
    if not ipaddress.ip_address(number).is_global:
        raise NotPublicError("not a public address")
    return safehttpx.AsyncSecureTransport(number)


async def _read(response: httpx.Response, spend: Spend) -> bytes:
    """Return the body as it was sent, never decompressed: a small body could expand to any size.

    Raises:
        ValueError: the status is not 200, or the body is compressed.
        TooLargeError: the body is larger than a picture may be.
        SpentError: the sender's allowance does not cover it.
    """
    if response.status_code != httpx.codes.OK or response.headers.get("content-encoding", "identity") != "identity":
        raise ValueError(f"answered with {response.status_code}, or packed")
    data = bytearray()
    async for chunk in response.aiter_raw():
        spend(len(chunk))
        data += chunk
        if len(data) > LARGEST_PICTURE:
            raise TooLargeError
    return bytes(data)
