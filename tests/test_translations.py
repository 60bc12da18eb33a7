"""The Chinese documents match the English ones: the same structure, commands, tables and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRANSLATED = ("README.md", "docs/guide.md")
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def read(name: str) -> str:
    return FRONT_MATTER.sub("", (ROOT / name).read_text(encoding="utf-8"))


def translation_of(name: str) -> str:
    return name.replace(".md", ".zh.md")


def pairs() -> list[tuple[str, str]]:
    """Return the text of every document and of its translation."""
    return [(read(name), read(translation_of(name))) for name in TRANSLATED]


def prose(text: str) -> list[str]:
    return BLOCK.sub("", text).splitlines()


def outline(text: str) -> list[str]:
    """Return a document's structure, line by line: headings by level, list items, table rows."""
    kinds = re.compile(r"(#+ |- |\|(?=.*\|$))")
    found = [(kinds.match(line), line) for line in prose(text)]
    return [match[1] + str(line.count(" | ")) if match[1] == "|" else match[1] for match, line in found if match]


def addresses(text: str) -> list[str]:
    """Return where links lead, ignoring the language and the heading, whose name differs between languages."""
    targets = re.findall(r"\]\(([^)#\s]*)[^)]*\)", text)
    return sorted(re.sub(r"\.zh\.md$", ".md", target) for target in targets)


def names_in_code(text: str) -> set[str]:
    """Return the files, commands, variables and the like in the text; what people would type may be translated."""
    return {name for name in re.findall(r"`([^`\n]+)`", "\n".join(prose(text))) if not CHINESE.search(name)}


@pytest.mark.parametrize(("english", "chinese"), pairs(), ids=TRANSLATED)
def test_a_translation_is_in_step(english: str, chinese: str) -> None:
    assert outline(chinese) == outline(english)
    assert BLOCK.findall(chinese) == BLOCK.findall(english)
    assert addresses(chinese) == addresses(english)
    assert names_in_code(chinese) == names_in_code(english)


@pytest.mark.parametrize(("english", "chinese"), pairs(), ids=TRANSLATED)
def test_a_translation_is_in_chinese(english: str, chinese: str) -> None:
    assert not CHINESE.search(re.sub(r"\[中文[^]]*\]", "", english))
    headings = [line for line in prose(chinese) if line.startswith("## ")]
    assert headings
    assert all(map(CHINESE.search, headings))
