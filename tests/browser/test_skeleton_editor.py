from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ipa_app.imaging.result_files import SETTINGS_KEY
from ipa_app.pose.body import FACE_MIRRORED, JOINT_NAMES, MIRRORED
from ipa_app.pose.draw import draw_sheet
from ipa_app.pose.presets import preset_file, preset_pictures, preset_sheets
from ipa_app.ui.skeleton_editor.component import skeleton_editor
from tests.browser import hands

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PRESETS = list(preset_sheets())
# The editor opens with the first one.
OPENED = PRESETS[0]
Points = list[tuple[float, float, bool]]


def joint(page: Any, name: str) -> Any:
    return page.locator(f'#skeleton [aria-label="{name}"]')


def press(page: Any, action: str) -> None:
    page.click(f"#skeleton [data-action={action}]")


def open_pose_tab(open_page: Any, **screen: Any) -> Any:
    page = open_page(**screen)
    page.get_by_role("tab", name="Pose").click()
    joint(page, "nose").wait_for()
    return page


def shown(page: Any) -> Points:
    """Return the joints as drawn, in pixels of the canvas, and whether each is shown."""
    points = page.evaluate(
        """() => [...document.querySelectorAll('#skeleton .ipa-skel-joint')].map((node) => {
            const {e, f} = node.transform.baseVal.consolidate().matrix;
            return [Math.round(e * 100) / 100, Math.round(f * 100) / 100, !node.classList.contains('ipa-skel-hidden')];
        })"""
    )
    return [(x, y, is_shown) for x, y, is_shown in points]


def preset_points(name: str) -> Points:
    return points_of(json.loads(preset_file(name).read_text("utf-8")))


def points_of(openpose: dict[str, Any]) -> Points:
    values = [value for person in openpose["people"] for value in person["pose_keypoints_2d"]]
    points = zip(values[0::3], values[1::3], values[2::3], strict=True)
    return [(x, y, confidence > 0) for x, y, confidence in points]


def generated_from(page: Any) -> dict[str, Any]:
    """Generate a picture and return the pose recorded in its file."""
    result = "#results .grid-wrap img"
    before = page.get_attribute(result, "src") if page.locator(result).count() else None
    page.fill("#count input[type=number]", "1")
    page.click("#pose-generate")
    changed = "([result, before]) => (document.querySelector(result)?.src ?? before) !== before"
    page.wait_for_function(changed, arg=[result, before])
    body = page.request.get(page.get_attribute(result, "src")).body()
    return json.loads(Image.open(io.BytesIO(body)).info[SETTINGS_KEY])["pose"]


def drag(page: Any, name: str, *, by: tuple[float, float]) -> tuple[float, float]:
    """Drag a joint by pixels of the screen, and return the distance in pixels of the canvas."""
    joint(page, name).scroll_into_view_if_needed()
    dot = joint(page, name).locator(".ipa-skel-dot").bounding_box()
    x, y = dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0] / 2, y + by[1] / 2, steps=3)
    page.mouse.move(x + by[0], y + by[1], steps=3)
    page.mouse.up()
    scale = 512 / page.locator("#skeleton svg").bounding_box()["width"]
    return by[0] * scale, by[1] * scale


def test_a_joint_dragged_with_the_mouse_is_what_is_drawn_from(open_page: Any, shoot: Any) -> None:
    page = open_pose_tab(open_page)
    assert shown(page) == preset_points(OPENED)
    shoot(page, "opened")
    wrist = JOINT_NAMES.index("left wrist")
    dx, dy = drag(page, "left wrist", by=(-30, -45))
    shoot(page, "dragged")
    expected = preset_points(OPENED)
    used = generated_from(page)
    assert (used["canvas_width"], used["canvas_height"]) == (512, 512)
    moved = points_of(used)
    assert moved[wrist][:2] == pytest.approx([expected[wrist][0] + dx, expected[wrist][1] + dy], abs=1)
    assert [p for i, p in enumerate(moved) if i != wrist] == [p for i, p in enumerate(expected) if i != wrist]
    press(page, "undo")
    assert shown(page) == expected
    press(page, "redo")
    assert shown(page) == moved
    press(page, "reset")
    assert points_of(generated_from(page)) == expected


def test_what_the_page_was_told_comes_back_as_no_news_and_later_it_is_news(chromium: Any) -> None:
    page = chromium.new_page()
    editor = skeleton_editor(preset_sheets()[OPENED])
    page.set_content(editor.html_template)
    page.evaluate(
        """([script, props]) => {
            window.props = props;
            const watch = (_, then) => { window.setByPython = (text) => { props.value = text; then(); }; };
            new Function("element", "props", "watch", script)(document.body, props, watch);
        }""",
        [editor.js_on_load, {"value": editor.value}],
    )

    def press(action: str) -> str:
        page.click(f"[data-action={action}]")
        return page.evaluate("props.value")

    page.evaluate("performance.now = () => 1")  # however busy the machine is
    first, second = press("smaller"), press("smaller")
    page.evaluate("text => setByPython(text)", first)  # an answer from a server slower than the fingers
    assert page.evaluate("props.value") == second
    assert (press("undo"), press("undo"), press("redo"), press("redo")) == (first, editor.value, first, second)
    page.evaluate("performance.now = () => 1e6")
    page.evaluate("text => setByPython(text)", first)
    assert page.evaluate("props.value") == first
    assert press("undo") == second
    page.close()


def test_the_keyboard_does_all_that_the_mouse_does(open_page: Any, shoot: Any) -> None:
    page = open_pose_tab(open_page, dark=True)
    before = preset_points(OPENED)
    joint(page, "nose").focus()
    page.keyboard.press("PageUp")
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "neck"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "neck"
    neck = [before[1][0] - 5.12, before[1][1] + 25.6]
    assert shown(page)[1][:2] == pytest.approx(neck, abs=0.02)
    page.keyboard.press("Delete")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "neck, hidden"
    shoot(page)
    page.keyboard.press("PageDown")
    page.keyboard.press("Delete")
    used = points_of(generated_from(page))
    assert used[1:3] == [(0, 0, False), (0, 0, False)]
    assert used[3:] == before[3:]
    for _ in range(4):
        page.keyboard.press("Control+z")
    joint(page, "nose").focus()
    for _ in range(4):
        page.keyboard.press("Control+z")
    assert shown(page) == before


def test_all_joints_are_one_stop_of_the_tab_key(open_page: Any) -> None:
    page = open_pose_tab(open_page)
    joint(page, "nose").focus()
    page.keyboard.press("PageUp")
    last = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.ipa-skel-tools') !== null")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == last


def test_mirror_size_and_hiding(open_page: Any, shoot: Any) -> None:
    page = open_pose_tab(open_page, width=390, height=844)
    page.locator("#pose-presets .grid-wrap button").nth(PRESETS.index("waving")).click()
    waving = preset_points("waving")
    page.wait_for_selector(f"#skeleton [transform='translate({waving[4][0]:g} {waving[4][1]:g})']")
    press(page, "mirror")
    assert shown(page) == [(512 - waving[i][0], waving[i][1], True) for i in MIRRORED]
    shoot(page, "mirrored")
    press(page, "mirror")
    assert shown(page) == waving
    press(page, "smaller")
    small = shown(page)
    assert small[0][1] - small[10][1] == pytest.approx((waving[0][1] - waving[10][1]) / 1.1, abs=0.1)
    for _ in range(20):
        press(page, "bigger")
    assert all(0 <= x <= 512 and 0 <= y <= 512 for x, y, _ in shown(page))
    shoot(page, "bigger")
    press(page, "reset")
    joint(page, "right wrist").locator(".ipa-skel-dot").dblclick()
    assert shown(page)[4] == (*waving[4][:2], False)
    assert points_of(generated_from(page))[4] == (0, 0, False)
    shoot(page, "hidden")
    joint(page, "right wrist, hidden").locator(".ipa-skel-dot").dblclick()
    assert shown(page) == waving
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def two_people() -> str:
    people = [json.loads(preset_file(name).read_text("utf-8"))["people"][0] for name in ("waving", "sitting")]
    return json.dumps({"people": people, "canvas_width": 512, "canvas_height": 640})


def edit_keypoints(page: Any, keypoints: str) -> None:
    page.click("#keypoints-panel button")
    page.fill("#keypoints textarea", keypoints)
    page.click("#keypoints-use")


def test_of_somebody_who_has_gone_no_joint_is_chosen(open_page: Any) -> None:
    page = open_pose_tab(open_page)
    edit_keypoints(page, two_people())
    joint(page, "left wrist, person 2").wait_for()
    page.locator("#pose-presets .grid-wrap button").nth(PRESETS.index("jumping")).click()
    joint(page, "left wrist").wait_for()
    press(page, "undo")
    joint(page, "left wrist, person 2").focus()
    press(page, "reset")
    assert shown(page) == preset_points("jumping")
    assert page.locator("#skeleton [data-action=hide]").is_disabled()
    assert page.inner_text("#skeleton .ipa-skel-said") == ""


def test_keypoints_come_in_checked_and_go_out(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    page = open_pose_tab(open_page)
    both = two_people()
    page.click("#keypoints-panel button")
    page.fill("#keypoints textarea", '{"people": "<img src=x onerror=alert(1)>"}')
    page.click("#keypoints-use")
    page.get_by_text("No keypoints were found in this file").wait_for()
    page.fill("#keypoints textarea", both)
    page.click("#keypoints-use")
    joint(page, "left wrist, person 2").wait_for()
    assert shown(page) == points_of(json.loads(both))
    joint(page, "left wrist, person 2").focus()
    page.keyboard.press("Shift+ArrowUp")
    shoot(page)
    with page.expect_download() as arriving:
        press(page, "download")
    saved = json.loads(Path(arriving.value.path()).read_text("utf-8"))
    assert points_of(saved) == shown(page) != points_of(json.loads(both))
    path = tmp_path / "jumping.json"
    path.write_text(preset_file("jumping").read_text("utf-8"), encoding="utf-8")
    with page.expect_file_chooser() as choosing:
        page.click("#keypoints-file")
    choosing.value.set_files(path)
    joint(page, "left wrist").wait_for()
    assert shown(page) == preset_points("jumping")


def test_a_picture_of_ones_own_makes_the_editor_step_aside(open_page: Any, shoot: Any, tmp_path: Path) -> None:
    page = open_pose_tab(open_page)
    drag(page, "left wrist", by=(-30, -45))
    edited = shown(page)
    own = tmp_path / "own.png"
    draw_sheet(preset_sheets()["kicking"], (128, 128)).save(own)
    page.set_input_files("#pose-image input[type=file]", str(own))
    page.wait_for_selector("#pose-aside :text('stepped aside')")
    assert not page.is_visible("#skeleton svg")
    shoot(page)
    assert isinstance(generated_from(page), str)
    page.click("#pose-back")
    page.wait_for_selector("#skeleton svg", state="visible")
    assert not page.is_visible("#pose-aside")
    assert shown(page) == edited
    page.set_input_files("#pose-image input[type=file]", str(preset_pictures()["kicking"]))
    page.wait_for_selector("#pose-aside", state="visible")
    page.locator("#pose-presets .grid-wrap button").nth(PRESETS.index("sitting")).click()
    page.wait_for_selector("#skeleton svg", state="visible")
    assert points_of(generated_from(page)) == preset_points("sitting")


def test_a_photo_that_cannot_be_read_is_explained_and_stays(open_page: Any, shoot: Any, reference_file: Path) -> None:
    page = open_pose_tab(open_page, dark=True)
    shoot(page)
    page.set_input_files("#pose-image input[type=file]", str(reference_file))
    page.click("#pose-find")
    page.get_by_text("OpenPose is not on this computer").first.wait_for()
    assert page.is_visible("#pose-image img")
    assert not page.is_visible("#skeleton svg")


def test_a_bone_moves_the_whole_figure_and_a_picture_shows_behind_it(open_page: Any, shoot: Any) -> None:
    page = open_pose_tab(open_page)
    before = shown(page)
    page.locator("#skeleton svg").scroll_into_view_if_needed()
    canvas = page.locator("#skeleton svg").bounding_box()
    scale = canvas["width"] / 512
    # Halfway between neck and right hip, far from every joint.
    neck, hip = before[1], before[8]
    x, y = (canvas[side] + scale * (neck[i] + hip[i]) / 2 for i, side in enumerate(("x", "y")))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40 * scale, y - 20 * scale, steps=4)
    page.mouse.up()
    moved = [
        value for old, new in zip(before, shown(page), strict=True) for value in (new[0] - old[0], new[1] - old[1])
    ]
    assert moved == pytest.approx([40, -20] * 18, abs=1)
    press(page, "behind")
    assert page.get_attribute("#skeleton image", "href") == page.get_attribute("#reference img", "src")
    shoot(page)
    press(page, "behind")
    assert page.locator("#skeleton image").count() == 0
    press(page, "copy")
    page.get_by_text("The keypoints are copied.").or_(page.get_by_text("use the download instead")).wait_for()


def detailed() -> dict[str, Any]:
    """Return two people, the first with a hand at the left wrist and a face around the nose."""
    data = json.loads(preset_file("arms out").read_text("utf-8"))
    first = data["people"][0]
    wrist, nose = points_of(data)[7], points_of(data)[0]
    first["hand_left_keypoints_2d"] = [
        value for i in range(21) for value in (wrist[0] + 6 * (1 + i % 4), wrist[1] + 6 * (i // 4) - 12, 1)
    ]
    first["face_keypoints_2d"] = [
        value for i in range(70) for value in (nose[0] + 3 * (i % 10) - 13, nose[1] + 4 * (i // 10) - 12, 1)
    ]
    second = {"pose_keypoints_2d": list(first["pose_keypoints_2d"])}
    second["pose_keypoints_2d"][1::3] = [y + 60 for y in second["pose_keypoints_2d"][1::3]]
    return {"people": [first, second], "canvas_width": 512, "canvas_height": 640}


def spots(pose: dict[str, Any], part: str, person: int = 0) -> np.ndarray:
    """Return the points (n, 2) of a hand or a face."""
    values = np.array(pose["people"][person].get(part, []), dtype=float).reshape(-1, 3)
    return values[:, :2]


def test_hands_and_face_go_with_their_figure(open_page: Any, shoot: Any) -> None:
    page = open_pose_tab(open_page)
    before = detailed()
    edit_keypoints(page, json.dumps(before))
    joint(page, "left wrist, person 2").wait_for()
    assert page.locator("#skeleton .ipa-skel-details circle").count() == 21 + 70
    assert page.locator("#skeleton .ipa-skel-details line").count() == 20
    shoot(page, "shown")
    hand, face = spots(before, "hand_left_keypoints_2d"), spots(before, "face_keypoints_2d")

    # A hand follows its wrist, a face its nose.
    joint(page, "left wrist, person 1").focus()
    page.keyboard.press("Shift+ArrowUp")
    joint(page, "nose, person 1").focus()
    page.keyboard.press("ArrowDown")
    moved = generated_from(page)
    moved_hand, moved_face = spots(moved, "hand_left_keypoints_2d"), spots(moved, "face_keypoints_2d")
    assert moved_hand == pytest.approx(hand - [0, 25.6], abs=0.02)
    assert moved_face == pytest.approx(face + [0, 5.12], abs=0.02)

    press(page, "mirror")
    shoot(page, "mirrored")
    mirrored = generated_from(page)
    assert spots(mirrored, "hand_left_keypoints_2d").size == 0
    assert spots(mirrored, "hand_right_keypoints_2d") == pytest.approx([512, 0] + moved_hand * [-1, 1], abs=0.02)
    turned = [512, 0] + moved_face * [-1, 1]
    assert spots(mirrored, "face_keypoints_2d") == pytest.approx(turned[list(FACE_MIRRORED)], abs=0.02)

    # It is hidden with its wrist, and comes back with it.
    joint(page, "right wrist, person 1").focus()
    page.keyboard.press("Delete")
    assert page.locator("#skeleton .ipa-skel-details line").count() == 0
    assert spots(generated_from(page), "hand_right_keypoints_2d").size == 0
    press(page, "undo")
    assert page.locator("#skeleton .ipa-skel-details line").count() == 20

    # The second person is removed.
    joint(page, "neck, person 2").focus()
    press(page, "remove")
    joint(page, "neck").wait_for()
    assert page.locator("#skeleton [data-action=remove]").is_disabled()
    left = generated_from(page)
    assert len(left["people"]) == 1
    press(page, "smaller")
    small = generated_from(page)
    wrists = [np.array(points_of(each)[4][:2]) for each in (left, small)]
    hands = [spots(each, "hand_right_keypoints_2d") for each in (left, small)]
    assert hands[1] - wrists[1] == pytest.approx((hands[0] - wrists[0]) / 1.1, abs=0.05)


def test_it_opens_after_settings_were_taken_from_a_picture(open_page: Any) -> None:
    page = open_page()
    page.fill("#count input[type=number]", "1")
    hands.press(page, "#variation-generate")
    page.click("#use-settings")
    hands.rest(page)
    page.get_by_role("tab", name="Pose").click()
    joint(page, "nose").wait_for()
    assert shown(page) == preset_points(OPENED)
