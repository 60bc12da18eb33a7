from __future__ import annotations

import pytest

from ipa_app.engine.wording import has_special_letters, readable, signs_in


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("[cat:dog:0.5] on a [red|blue] hill", ["[cat:dog:0.5]", "[red|blue]"]),
        ("a cat <lora:film_v2:0.8> BREAK a dog AND a frog", ["<lora:film_v2:0.8>", "BREAK", "AND"]),
        ("__colour/bright__ {cat|dog}, {frog}", ["__colour/bright__", "{cat|dog}", "{frog}"]),
        ("<cat-toy> in embedding:myface, style", ["<cat-toy>", "embedding:myface"]),
        (
            "EasyNegative, bad-hands-5, ng_deepnegative_v1_75t",
            ["EasyNegative", "bad-hands-5", "ng_deepnegative_v1_75t"],
        ),
        ("red++ cat, (old)1.3 frog, dog--", ["red++", "(old)1.3", "dog--"]),
        ("a cat::2 --ar 16:9 --v 6", ["cat::2", "--ar 16:9", "--v 6"]),
        ("red++ and red++", ["red++"]),
    ],
)
def test_what_other_programs_would_obey_is_found(text: str, signs: list[str]) -> None:
    assert signs_in(text) == signs


@pytest.mark.parametrize(
    "text",
    [
        "a cat (orange) and a dog",
        r"a (red:1.3) cat, ((big)), [small], saber \(fate\)",
        "a well-known cat -- black, 16:9, at 1:30",
        "rock and roll; break a leg",
        "bad hands, negative space, deep water",
        "a_b snake_case, a+b, 1-2",
        "",
    ],
)
def test_ordinary_writing_has_no_signs(text: str) -> None:
    assert signs_in(text) == []


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("ｒｅｄ　ｃａｔ，ｄｏｇ", "red cat,dog"),
        ("𝓻𝓮𝓭 cat, ﬁne ②", "red cat, fine 2"),
        ("ｶﾞ", "カ\u3099"),
        ("a\u200b \u202ered\u202c \ufeffcat\0", "a red cat"),
        ("a red cat,\n“quoted” … ½ ™ 🐱", "a red cat,\n“quoted” … ½ ™ 🐱"),
        ("👨\u200d👩\u200d👧 می\u200cخواهم", "👨\u200d👩\u200d👧 می\u200cخواهم"),
        ("é and e\u0301, 红色的猫, кошка", "é and e\u0301, 红色的猫, кошка"),
    ],
)
def test_special_letters_become_ordinary_and_what_nobody_sees_goes(typed: str, read: str) -> None:
    assert readable(typed) == read


def test_full_width_punctuation_is_no_special_letter() -> None:
    assert not has_special_letters("红色的猫，（蓝色：1.2）帽子！")
    assert has_special_letters("ｒｅｄ cat")
