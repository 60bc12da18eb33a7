from __future__ import annotations

import pytest

from ipa_app.errors import UserError
from ipa_app.models.prompt_weights import check_weights, escaped, weighted_spans, within_bounds, without_weights
from tests.effort import check_cpu_s


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("a red cat", [("a red cat", 1)]),
        ("", []),
        ("()", []),
        ("a (red:1.3) cat", [("a ", 1), ("red", 1.3), (" cat", 1)]),
        ("(red)", [("red", 1.1)]),
        ("((red)) [blue]", [("red", 1.21), (" ", 1), ("blue", 0.909091)]),
        ("([red])", [("red", 1)]),
        ("(a (red:1.2) cat:0.5)", [("a ", 0.5), ("red", 0.6), (" cat", 0.5)]),
        ("((red):1.3)", [("red", 1.43)]),
        ("(red:.5) (blue: 2. )", [("red", 0.5), (" ", 1), ("blue", 2)]),
        ("(red:0)", [("red", 0)]),
        ("(red:bright)", [("red:bright", 1.1)]),
        (r"saber \(fate:1.5\) \[x\] \\", [(r"saber (fate:1.5) [x] " + "\\", 1)]),
        (r"(a \(b\):1.5)", [("a (b)", 1.5)]),
        ("(open a cat :( [", [("(open a cat :( [", 1)]),
        ("a cat :) ]", [("a cat :) ]", 1)]),
        ("(a [red:1.2)", [("a [red", 1.2)]),
        ("[cat:dog:0.5] [cat|dog]", [("[cat:dog:0.5] [cat|dog]", 1)]),
        (r"a\b", [(r"a\b", 1)]),
    ],
)
def test_weights_are_read_as_people_write_them(text: str, spans: list[tuple[str, float]]) -> None:
    assert weighted_spans(text) == spans
    assert without_weights(text) == "".join(words for words, _ in spans)


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("(a:1)" * 20_000, "aaa"),
        ("(" * 20_000 + "a" + ")" * 20_000, "a"),
        ("[" * 20_000 + "a|b" + "]" * 20_000, "[[["),
        (")" * 100_000, ")))"),
        ("(" * 1000 + ":" + "1" * 1000 + "x" + ")" * 1000, ":11"),
    ],
    ids=lambda text: text[:10],
)
def test_any_number_of_brackets_is_read_in_bearable_time(text: str, begins: str) -> None:
    assert without_weights(text).startswith(begins)
    check_cpu_s(lambda: without_weights(text), most=1)


@pytest.mark.parametrize("text", ["a (red:1.3) cat", r"\(a\) [b] \\", "((", "a\nb", "（red：1.3）"])
def test_an_escaped_prompt_is_read_letter_by_letter(text: str) -> None:
    assert weighted_spans(escaped(text).translate(str.maketrans("（）：", "():"))) == [
        (text.translate(str.maketrans("（）：", "():")), 1)
    ]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("(red:30) cat", [("red", 3), (" cat", 1)]),
        ("a (big:-1)", [("a ", 1), ("big", 0)]),
        (r"(:\):9) \(b:7\)", [(":)", 3), (" (b:7)", 1)]),
        ("(a:1.5) [(b:4)]", [("a", 1.5), (" ", 1), ("b", 3)]),
        ("(red:1.5:30)", [("red:1.5", 3)]),
    ],
)
def test_weights_brought_within_bounds_are_the_nearest(text: str, spans: list[tuple[str, float]]) -> None:
    assert weighted_spans(within_bounds(text)) == spans
    check_weights(within_bounds(text), prompt="The prompt")


@pytest.mark.parametrize("text", ["(red:0) (blue:3) cat", "((((((((((red))))))))))", "(((red:2):0.5):3)"])
def test_weights_within_bounds_are_taken(text: str) -> None:
    check_weights(text, prompt="The prompt")


@pytest.mark.parametrize(
    ("text", "words", "weight"),
    [
        ("(red:30)", "red", "30"),
        ("a (big  dog:-1)", "big dog", "-1"),
        ("((red:2):2)", "red", "4"),
        ("(" * 900 + "red" + ")" * 900, "red", f"{1.1**900:g}"),
        ("(" + "a b " * 50 + ":9)", ("a b " * 10)[:40] + "…", "9"),
    ],
)
def test_a_weight_out_of_bounds_is_refused(text: str, words: str, weight: str) -> None:
    with pytest.raises(UserError) as refused:
        check_weights(text, prompt="The prompt")
    assert str(refused.value) == (
        f"The prompt gives “{words}” the weight {weight}; a weight must be from 0 to 3. "
        r"For ordinary brackets write \( and \)."
    )
