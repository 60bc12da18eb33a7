"""Everything about an option follows from its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from ipa_app.errors import UserError
from ipa_app.options import check_options, option, options
from tests.changed_package import copy_package, run_with
from tests.declared_anew import DECLARATION


@dataclass(frozen=True, kw_only=True)
class Cake:
    layers: int = option(2, title="The layers", between=(1, 9), doc="{least:g} to {most:g}")
    icing: Literal["none", "sugar"] = option("none", title="The icing", api="glaze")
    candles: int = option(0, title="The candles", between=(10, 100), or_zero=True, multiple=10)
    baker: str = "somebody"

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class Tart(Cake):
    fruit: str = option("", title="The fruit", longest=6)


def test_options_are_listed_with_what_their_fields_say() -> None:
    declared = options(Cake)
    assert list(declared) == ["layers", "icing", "candles"]
    assert [each.api for each in declared.values()] == ["layers", "glaze", "candles"]
    assert [each.choices for each in declared.values()] == [(), ("none", "sugar"), ()]
    assert declared["layers"].documentation == "layers: 1 to 9"
    assert [(name, each.declared_in) for name, each in options(Tart).items()] == [
        *((name, Cake) for name in declared),
        ("fruit", Tart),
    ]


def test_what_has_no_title_is_called_as_people_see_it() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Pie:
        crust: int = option(1, label="How thick", between=(1, 3))
        pan: int = option(1)

    assert [each.called for each in options(Pie).values()] == ["“How thick”", "pan"]


@pytest.mark.parametrize(
    ("values", "told", "field"),
    [
        ({"layers": 10}, "The layers is 10; it must be a whole number from 1 to 9.", "layers"),
        ({"icing": "cream"}, "The icing is 'cream'; it must be none or sugar.", "glaze"),
        ({"candles": 15}, "The candles is 15; it must be 0 or a multiple of 10.", "candles"),
        ({"candles": 110}, "The candles is 110; it must be 0 or a multiple of 10 from 10 to 100.", "candles"),
        ({"fruit": "pineapple"}, "The fruit is 9 characters long; it must have at most 6.", "fruit"),
    ],
)
def test_what_is_not_allowed_is_refused_by_the_name_that_programs_know(
    values: dict[str, object], told: str, field: str
) -> None:
    with pytest.raises(UserError) as refused:
        Tart(**values)
    assert (str(refused.value), refused.value.field) == (told, field)


def test_values_are_kept_as_their_type_is() -> None:
    cake = Cake(layers=4.0, candles=20.0)
    assert [repr(value) for value in (cake.layers, cake.candles)] == ["4", "20"]


def test_what_cannot_be_declared_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="colour"):
        option(1, title="The layers", colour="red")


@pytest.mark.slow
def test_a_declaration_is_all_that_a_new_parameter_needs(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    requests = package / "engine" / "requests.py"
    before, after = requests.read_text(encoding="utf-8").split("    notes: tuple[Message, ...] = ()", 1)
    requests.write_text(f"{before}{DECLARATION}    notes: tuple[Message, ...] = (){after}", encoding="utf-8")
    run_with(package, "declared_anew.py", tiny_bundle_dir, tmp_path / "temporary")
