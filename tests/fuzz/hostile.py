"""Hostile input: files of every kind as somebody might have spoilt them, values of every type, and what must hold.

Whatever comes in is taken, or refused with one sentence. The ordinary run tries the same few examples each time; the
long one (`-m long`) tries ten thousand others each time, and prints how to have those again that fail.
"""

from __future__ import annotations

import json
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipa_app.errors import UserError
from ipa_app.imaging.truncated import png_chunks
from ipa_app.messages import Message, as_data
from ipa_app.models.memory import peak_of_process

T = TypeVar("T")
LONG = 10_000
SLOW_S = 2.0
MOST_BYTES = 2 * 1024**3

EXTREMES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)


def examples(short: int) -> pytest.MarkDecorator:
    """Parametrize a test by how many examples are tried: a few, and in the long run many."""
    many = pytest.param(LONG, marks=[pytest.mark.long, pytest.mark.timeout(7200)])
    return pytest.mark.parametrize("count", [short, many])


def holds(take: Callable[[T], object], inputs: st.SearchStrategy[T], *, count: int) -> None:
    """Try a number of inputs: each is taken, or refused with one sentence, in bounded memory.

    How long it took is said and not asserted: a loaded machine is no fault.
    """
    slowest = 0.0

    def tried(value: T) -> None:
        nonlocal slowest
        since = time.process_time()
        try:
            take(value)
        except UserError as error:
            check_sentence(error.message)
        slowest = max(slowest, time.process_time() - since)

    before = peak_of_process()
    # In the ordinary run no chance is left in it, and nothing is written beside the tests.
    chosen = settings(
        max_examples=count,
        derandomize=count < LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    chosen(given(inputs)(tried))()
    assert peak_of_process() - before < MOST_BYTES
    if slowest > SLOW_S:
        warnings.warn(f"one of {count} examples took {slowest:.1f} s", stacklevel=2)


def check_sentence(message: Message) -> None:
    """One line that ends as a sentence does, short enough to be read, and that can be sent to the page."""
    sentence = str(message)
    assert 10 < len(sentence) < 2000, sentence
    assert sentence[-1] in ".!?", sentence
    assert len(sentence.splitlines()) == 1, sentence
    json.dumps(as_data(message)).encode()
    sentence.encode()


@st.composite
def spoilt(draw: st.DrawFn, files: Sequence[bytes], *, head: int = 256) -> bytes:
    """One of some files with a few things done to it: bytes and numbers changed, parts cut, doubled or exchanged.

    Args:
        draw: of hypothesis.
        files: whole ones.
        head: how many of the first bytes are changed more often than others, as numbers stand there that decide much.
    """
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, 6))):
        near = draw(st.booleans())
        at = draw(st.integers(0, max(0, min(len(data), head) - 1 if near else len(data) - 1)))
        length = draw(st.integers(1, 64))
        how = draw(st.sampled_from(_WAYS))
        data = how(draw, data, at, length, files)
    return bytes(data)


def _bytes(draw: st.DrawFn, data: bytearray, at: int, length: int, _files: Sequence[bytes]) -> bytearray:
    data[at : at + 1] = draw(st.binary(min_size=1, max_size=1 + length % 4))
    return data


def _number(draw: st.DrawFn, data: bytearray, at: int, _length: int, _files: Sequence[bytes]) -> bytearray:
    number, form = draw(st.sampled_from(EXTREMES)), draw(st.sampled_from(["<I", ">I", "<H", ">H", "B"]))
    written = struct.pack(form, number & (2 ** (8 * struct.calcsize(form)) - 1))
    data[at : at + len(written)] = written
    return data


def _cut(_draw: st.DrawFn, data: bytearray, at: int, _length: int, _files: Sequence[bytes]) -> bytearray:
    return data[:at]


def _left_out(_draw: st.DrawFn, data: bytearray, at: int, length: int, _files: Sequence[bytes]) -> bytearray:
    return data[:at] + data[at + length :]


def _doubled(_draw: st.DrawFn, data: bytearray, at: int, length: int, _files: Sequence[bytes]) -> bytearray:
    return data[: at + length] + data[at : at + length] + data[at + length :]


def _exchanged(draw: st.DrawFn, data: bytearray, at: int, length: int, files: Sequence[bytes]) -> bytearray:
    other = draw(st.sampled_from(files))
    return data[:at] + other[at : at + length] + data[at + length :]


_WAYS = (_bytes, _bytes, _number, _number, _cut, _left_out, _doubled, _exchanged)


def with_right_sums(data: bytes) -> bytes:
    """A PNG whose checksums are right again, so that a decoder looks at what is wrong in its chunks."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    chunks = ((name, body) for name, body, _ in png_chunks(data))
    return data[:8] + b"".join(
        struct.pack(">I4s", len(body), name) + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def texts(longest: int = 60) -> st.SearchStrategy[str]:
    """Text of all of Unicode, with halves of characters, what can be seen and what cannot."""
    anything = st.characters(exclude_categories=())
    odd = st.sampled_from(
        "\0\x07\x1b\x7f\u00ad\u200b\u200d\u202e\u2028\u2060\ufeff\ufffe\ud800\udfff\ufdfd\ufdfa\U0001d51e\ufb00\u2460\ua66e(){}[]<>_+-:|\\"
    )
    return st.text(st.one_of(anything, odd, st.sampled_from("a cat,.12")), max_size=longest)


def numbers() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.integers(),
        st.floats(),
        st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 10**40, 10**4000, 1e308, -0.0, 5e-324, 0.5]),
    )


def anything(leaves: int = 12) -> st.SearchStrategy[Any]:
    """Whatever JSON can hold."""
    leaf = st.one_of(st.none(), st.booleans(), numbers(), texts(20))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(texts(12), inner, max_size=6)),
        max_leaves=leaves,
    )


@st.composite
def altered(draw: st.DrawFn, values: Sequence[Any], *, most: int = 4) -> Any:
    """JSON that is nearly right: one of some values, in which a few places hold something else, or nothing."""
    value = draw(st.sampled_from(values))
    for _ in range(draw(st.integers(0, most))):
        value = _altered(draw, value)
    return value


def _altered(draw: st.DrawFn, value: Any) -> Any:
    """Alter one place, however deep."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value, key=str)))
        if not draw(st.integers(0, 5)):
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: _altered(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(value) - 1))
        if not draw(st.integers(0, 5)):
            return draw(st.sampled_from([value[:at], value[at:], value + value[:at], value[:at] + value[at + 1 :]]))
        return [*value[:at], _altered(draw, value[at]), *value[at + 1 :]]
    return draw(anything(4))
