"""Documents in Chinese say what the English ones say: part by part, with the same commands, tables and links."""

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
    """The text of every document, and of its translation."""
    return [(read(name), read(translation_of(name))) for name in TRANSLATED]


def prose(text: str) -> list[str]:
    return BLOCK.sub("", text).splitlines()


def outline(text: str) -> list[str]:
    """What a document is made of, line by line: headings by their levels, points of a list, rows of tables."""
    kinds = re.compile(r"(#+ |- |\|(?=.*\|$))")
    found = [(kinds.match(line), line) for line in prose(text)]
    return [match[1] + str(line.count(" | ")) if match[1] == "|" else match[1] for match, line in found if match]


def addresses(text: str) -> list[str]:
    """Where links lead, whichever language they lead to; headings have other names in another language."""
    targets = re.findall(r"\]\(([^)#\s]*)[^)]*\)", text)
    return sorted(re.sub(r"\.zh\.md$", ".md", target) for target in targets)


def names_in_code(text: str) -> set[str]:
    """Files, commands, variables and the like that stand in the text; what people would type may be translated."""
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
