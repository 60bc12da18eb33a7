"""A model's dictionary for other languages: how it is applied, and that the shipped one has all of Toybox's words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.vocabulary import Dictionary, read_dictionaries

SPELLED_IN_ANOTHER_WAY = {"dressed"}
TOYBOX = entry_from_folder(BUNDLED, name="toybox")
CHINESE = TOYBOX.dictionaries["zh"]
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a red cat  on the beach", "a red cat  on the beach"),
        ("一只蓝色小猫，穿着红色衬衫", "a blue kitten ， wearing red shirt"),
        ("熊猫、泰迪熊", "a panda , teddy bear"),
        ("小熊猫戴着棒球帽", "small panda wearing baseball cap"),
        ("紅色襯衫和黃色T恤", "a red shirt and yellow t-shirt"),
        ("在沙滩上坐着的red cat", "a red cat on the beach sitting"),
        ("(红色:1.3)帽子 [猫]", "a ( red :1.3) hat [ cat ]"),
        ("紫色斑马", "a purple 斑马"),
        ("猫\n狗", "a cat \n dog"),
        ("。、的", ","),
        ("", ""),
    ],
)
def test_chinese_is_read_in_the_words_of_toybox(typed: str, read: str) -> None:
    assert TOYBOX.in_own_words(typed) == read


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("一只穿红色衬衫的蓝色小猫在海滩上挥手", "a blue kitten wearing red shirt on the beach waving"),
        ("在雪地里奔跑的棕色泰迪熊", "a brown teddy bear in the snow running"),
        ("戴着红色的帽子的蓝色的猫", "a blue cat wearing red hat"),
        ("穿带白点的红T恤、戴礼帽的青蛙", "a frog wearing red t-shirt with white spots , wearing top hat"),
        ("穿红色带白点的衬衫的猫", "a cat wearing red shirt with white spots"),
        ("穿红衬衫的斑马", "斑马 wearing red shirt"),
        # A phrase without an end of its own is not moved; it ends with its part of the sentence.
        ("小猫，穿着红色衬衫，在海边的房间里", "a kitten ， wearing red shirt ， in a room by the sea"),
        # Weights keep their extent.
        ("穿(红色:1.3)衬衫的猫", "a cat wearing ( red :1.3) shirt"),
        ("穿(红色衬衫的猫:1.3)", "a cat wearing ( red shirt :1.3)"),
        ("(穿红衬衫的)猫", "( wearing red shirt ) cat"),
    ],
)
def test_what_stands_before_its_noun_in_chinese_comes_behind_it(typed: str, read: str) -> None:
    assert TOYBOX.in_own_words(typed) == read


@pytest.mark.parametrize(
    "sentence",
    [
        "一只穿着带橙色圆点的蓝色衬衫和黄色裤子的粉色熊猫，困倦的眼睛、平平的嘴，在夜里奔跑。",
        "可爱的绿色青蛙，大眼睛，开心地笑着，戴着紫色礼帽，举起双臂，在森林里",
        "灰色的机器人戴着红色耳机，双手叉腰站在城市街道上",
        "棕色的小狗围着黄色围巾，在雪地里跳跃，张着嘴",
        "穿星星图案上衣的外星人在墙前指着一边",
    ],
)
def test_what_people_write_of_toys_is_known_to_the_last_word(sentence: str) -> None:
    assert TOYBOX.unknown_words(sentence) == []


def test_the_words_that_are_not_known_are_named_as_they_were_typed() -> None:
    assert TOYBOX.unknown_words("紫色斑马在月球上，a red 恐龙") == ["斑马", "月球", "恐龙"]


def test_the_dictionary_has_every_word_of_toybox_and_no_other() -> None:
    known = {word for group in TOYBOX.words.values() for word in group if word.isalpha() or "-" in word}
    meant = {word for group in CHINESE.groups.values() for own in group for word in re.findall(r"[a-z-]+", own)}
    assert known - SPELLED_IN_ANOTHER_WAY == meant
    assert CHINESE.groups.keys() == TOYBOX.words.keys()


def test_no_way_of_writing_means_two_things() -> None:
    forms = [form for group in CHINESE.groups.values() for forms in group.values() for form in forms]
    assert sorted(forms) == sorted(set(forms))
    assert all(HAN.search(form) or not form.isalnum() for form in forms)


def test_the_word_for_one_that_chinese_leaves_out_is_said() -> None:
    assert TOYBOX.in_own_words("粉色熊猫") == TOYBOX.in_own_words("一只粉色熊猫") == "a pink panda"
    assert TOYBOX.in_own_words("在海滩上挥手") == "on the beach waving"


def test_words_with_spaces_between_them_are_found_whole() -> None:
    german = Dictionary({"animals": {"cat": ("Katze",), "teddy bear": ("Teddy",)}, "glue": {"": ("die",)}})
    assert german.translated("die KATZE, Katzen, Teddy") == "cat , Katzen, teddy bear"
    assert Dictionary({}).translated("Katze") == "Katze"


def test_dictionaries_lie_beside_the_words_by_the_tag_of_their_language(tmp_path: Path) -> None:
    for name in ("words.json", "words.de.json", "words.zh-Hant.json", "words.old.de.json"):
        (tmp_path / name).write_text(json.dumps({"animals": {"cat": ["Katze", "Kater"]}}), encoding="utf-8")
    found = read_dictionaries(tmp_path)
    assert list(found) == ["de", "zh-Hant"]
    assert found["de"].shown("animals") == ["Katze"]
    assert found["de"].shown("things") == []


@pytest.mark.parametrize("wrong", [["Katze"], {"cat": "Katze"}, {"cat": []}, {"cat": [" "]}, {"cat": [1]}])
def test_a_dictionary_of_another_form_is_refused_by_its_name(tmp_path: Path, wrong: object) -> None:
    (tmp_path / "words.de.json").write_text(json.dumps({"animals": wrong}), encoding="utf-8")
    with pytest.raises(UserError, match=r"words.de.json: the group 'animals' must give a list of spellings"):
        read_dictionaries(tmp_path)
