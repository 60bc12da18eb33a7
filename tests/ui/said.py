"""Reading from the source what the program can say while it runs, with `{}` for what is only known then."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import ipa_app

ROOT = Path(ipa_app.__file__).parent
PACKAGES = ("", "engine", "engine/tasks", "imaging", "models", "pose", "adapter")
PLACEHOLDER = re.compile(r"\{[^{}]*\}")

# What the engine and the manager report goes to the page even where it is a single word.
REPORTS = ("report", "Progress", "ModelState", "Part", "UserError", "wrong_value")


def blank(text: str) -> str:
    """A text with all of its placeholders nameless."""
    return PLACEHOLDER.sub("{}", text)


def said_in(package: str) -> dict[str, str]:
    """Every text for people in a package, "" being the topmost modules, and the file it stands in.

    These are all literals of several words but for docstrings, what goes into the log, and errors other than
    UserError, which are for programmers; and single words that are reported.
    """
    return {
        text: path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / package).glob("*.py"))
        for text in _said_by(ast.parse(path.read_text(encoding="utf-8")))
        if re.search("[a-z]", text)
    }


def _said_by(node: ast.AST) -> Iterator[str]:
    if _is_for_programmers(node):
        return
    if isinstance(node, ast.Constant | ast.JoinedStr):
        yield from (text for text in _texts(node) if " " in text.strip())
    if isinstance(node, ast.keyword) and node.arg == "doc":
        return  # of the API, whose documentation is in English alone
    if isinstance(node, ast.Call) and _name(node.func) in REPORTS:
        for argument in [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg in ("message", None))]:
            yield from _texts(argument)
    for child in _children(node):
        yield from _said_by(child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.JoinedStr):
        # Its words are part of the whole; what is computed in it may be words of its own.
        computed = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        yield from (value for value in computed if not _choice(value))
        return
    skipped = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(node, ast.AnnAssign | ast.FunctionDef | ast.arg):
        yield from (child for child in ast.iter_child_nodes(node) if child not in skipped)
    else:
        yield from ast.iter_child_nodes(node)


def _is_for_programmers(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        return _name(node.exc.func).endswith("Error") and _name(node.exc.func) != "UserError"
    if isinstance(node, ast.Call):
        called = node.func
        return isinstance(called, ast.Attribute) and _name(called.value) == "logger" or _name(called) == "cast"
    return False


def _texts(node: ast.AST) -> Iterator[str]:
    """The texts that a literal can come to: several where an f-string chooses between words."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        for parts in itertools.product(*map(_pieces, node.values)):
            yield "".join(parts)


def _pieces(part: ast.expr) -> list[str]:
    if isinstance(part, ast.FormattedValue):
        return _choice(part.value) or ["{}"]
    return list(_texts(part))


def _choice(node: ast.expr) -> list[str]:
    """The two words that a conditional expression chooses between; none for anything else."""
    if not isinstance(node, ast.IfExp):
        return []
    words = [each.value for each in (node.body, node.orelse) if isinstance(each, ast.Constant)]
    return [str(word) for word in words] if len(words) == 2 else []


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
