"""Detectors are an open set: the page and the API know each by its registry entry alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.pose import detectors
from ipa_app.pose.detector import Detector, PoseOptions
from ipa_app.pose.detectors import DETECTORS, detector_for
from ipa_app.pose.openpose import OPENPOSE
from tests.changed_package import ROOT, copy_package, run_with
from tests.detector_anew import CHINESE, LINE, MODULE


def test_the_documentation_lists_them() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if re.match(r'\| `"\w+"` \|', line)]
    assert rows == [
        [
            f'`"{each.name}"`',
            each.title,
            "yes" if each.hands else "no",
            "yes" if each.face else "no",
            ", ".join(f"`{package}`" for package in each.packages) or "nothing",
            each.licence,
        ]
        for each in DETECTORS.values()
    ]


@pytest.fixture
def modest(monkeypatch: pytest.MonkeyPatch) -> Detector:
    """A detector that finds bodies only."""
    detector = replace(OPENPOSE, name="modest", title="Modest", hands=False, face=False)
    monkeypatch.setattr(detectors, "DETECTORS", {**DETECTORS, "modest": detector})
    return detector


@pytest.mark.parametrize("details", ["fingers", "faces"])
def test_what_a_detector_does_not_find_is_said_and_who_does(modest: Detector, details: str) -> None:
    assert detector_for(PoseOptions(pose_detector="modest")) is modest
    asked = {"pose_hands": details == "fingers", "pose_face": details == "faces"}
    with pytest.raises(UserError) as refused:
        detector_for(PoseOptions(pose_detector="modest", **asked))
    said = f"Modest cannot find {details}: please leave them out, or let OpenPose find the pose."
    assert str(refused.value) == said
    assert detector_for(PoseOptions(**asked)) is OPENPOSE


def test_one_that_is_not_installed_is_said_to_be_so(modest: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = replace(modest, packages=("json", "no_such_package"))
    monkeypatch.setattr(detectors, "DETECTORS", {**DETECTORS, "modest": missing})
    assert detectors.detectors() == tuple(name for name, each in DETECTORS.items() if each.is_installed)
    with pytest.raises(UserError) as refused:
        detector_for(PoseOptions(pose_detector="modest"))
    assert str(refused.value) == (
        "Modest is not installed here: please install it as docs/guide.md says, or let OpenPose find the pose."
    )


@pytest.mark.slow
def test_a_new_one_is_its_module_its_line_and_its_words_in_chinese(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    (package / "pose" / "middle.py").write_text(MODULE, encoding="utf-8")
    registry = package / "pose" / "detectors.py"
    text = registry.read_text(encoding="utf-8").replace(LINE, f"{LINE}            MIDDLE,\n")
    imports = "from ipa_app.pose.openpose import OPENPOSE\n"
    registry.write_text(text.replace(imports, f"{imports}from ipa_app.pose.middle import MIDDLE\n"), encoding="utf-8")
    words = package / "messages" / "zh.json"
    chinese = json.loads(words.read_text(encoding="utf-8"))
    chinese["option.pose_detector.shown.middle"] = CHINESE["shown"]
    chinese["option.pose_detector.help"] += CHINESE["help"]
    chinese["detector.middle.help"] = CHINESE["help"]
    words.write_text(json.dumps(chinese), encoding="utf-8")
    run_with(package, "detector_anew.py", tiny_bundle_dir, tmp_path / "temporary")
