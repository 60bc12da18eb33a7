"""Find the people in a keypoint file, frame by frame, by its structure, not by the program that wrote it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipa_app.pose.body import JOINT_NAMES
from ipa_app.pose.point_orders import ORDERS
from ipa_app.pose.written_points import are_named, are_points, as_number, is_point

# Keys under which files store the points of one body or of several; likeliest first.
_BODY_NAMES = (
    *("pose_keypoints_2d", "pose_keypoint_2d", "pose_keypoints", "body_keypoints_2d", "body_keypoints"),
    *(
        "keypoints",
        "keypoints_2d",
        "joints",
        "pose_landmarks",
        "poseLandmarks",
        "landmarks",
        "pose",
        "body",
        "candidate",
    ),
)
_PEOPLE_NAMES = ("people", "persons", "instances", "predictions", "bodies", "poses", *_BODY_NAMES)
# Parts of keys whose points belong to something else.
_OTHER_NAMES = ("animal", "world", "3d", "hand", "face", "meta_info", "color")
_FRAME_NAMES = ("image_id", "frame_id", "frame", "image")
_CANVAS_NAMES = (
    *(("canvas_width", "canvas_height"), ("image_width", "image_height"), ("img_width", "img_height")),
    ("width", "height"),
)
_PARTS = ("canvas", "image", "size", "dimensions", "meta_info")
# Keys under which files name the points of all their people, in order.
_LISTED_NAMES = ("keypoint_id2name", "keypoint_names", "joint_names")
_DEEPEST = 8


@dataclass(frozen=True)
class Frame:
    """The people of one picture.

    Attributes:
        people: as the file has them, whatever that is.
        around: the enclosing objects, innermost first.
    """

    people: Sequence[object]
    around: Sequence[Mapping[str, Any]] = ()

    @property
    def canvas(self) -> tuple[float, float] | None:
        """Width and height in pixels; None if the file does not give them."""
        for where in self._said:
            for names in _CANVAS_NAMES:
                width, height = (as_number(where.get(name)) or 0.0 for name in names)
                if 0 < width < math.inf and 0 < height < math.inf:
                    return width, height
        return None

    def names_for(self, person: object) -> list[str] | None:
        """Return the names that the file gives to the points of a person's list; None if it gives none."""
        own = (person,) if isinstance(person, Mapping) else ()
        for where in (*own, *self._said):
            category = _category_of(person, where.get("categories"))
            for names in (category.get("keypoints"), *(where.get(key) for key in _LISTED_NAMES)):
                listed = _by_number(names) if isinstance(names, Mapping) else names
                if isinstance(listed, list) and all(isinstance(name, str) for name in listed) and _tell(listed):
                    return listed
        return None

    @property
    def _said(self) -> Iterator[Mapping[str, Any]]:
        """Yield the objects that may describe the whole picture, innermost first."""
        for each in self.around:
            yield each
            yield from (part for name in _PARTS if isinstance(part := each.get(name), Mapping))


def _tell(names: Sequence[str]) -> bool:
    """Whether names say anything: those of some annotation programs are just numbers, or "point 1", "point 2" ..."""
    return len({re.sub(r"\d+", "", name) for name in names}) > 1


def _by_number(names: Mapping[str, Any]) -> list[Any]:
    return [name for _, name in sorted(names.items(), key=lambda item: as_number(item[0]) or 0.0)]


def _category_of(person: object, categories: object) -> Mapping[str, Any]:
    """Return a person's entry in an annotation file's list of categories; empty if it has none."""
    listed = [each for each in categories if isinstance(each, Mapping)] if isinstance(categories, list) else []
    said = person.get("category_id") if isinstance(person, Mapping) else None
    if said is None:
        return listed[0] if len(listed) == 1 else {}
    return next((each for each in listed if str(each.get("id")) == str(said)), {})


def frames_in(data: object, around: Sequence[Mapping[str, Any]] = (), *, depth: int = 0) -> Iterator[Frame]:
    """Yield every frame in which a file has people, or explicitly has none.

    Args:
        data: the parsed JSON, or a part of it.
        around: the enclosing objects, innermost first.
        depth: number of enclosing objects and lists.
    """
    if depth > _DEEPEST:
        return
    inner = (data, *around) if isinstance(data, Mapping) else around
    if is_person(data):
        yield Frame(_apart([data]), inner)
    elif isinstance(data, Mapping):
        yield from _frames_in_object(data, inner, depth=depth)
    elif isinstance(data, list) and any(map(is_person, data)):
        yield from (Frame(_apart(people), around) for people in _by_frame(data))
    elif isinstance(data, list):
        for each in data:
            yield from frames_in(each, around, depth=depth + 1)


def _frames_in_object(data: Mapping[str, Any], inner: Sequence[Mapping[str, Any]], *, depth: int) -> Iterator[Frame]:
    if isinstance(data.get("annotations"), list):
        yield from _coco_frames(data, inner)
        return
    for name in _PEOPLE_NAMES:
        value = data.get(name)
        if isinstance(value, Mapping) and "candidate" not in value:
            value = list(value.values())
        if isinstance(value, list) and (not value or any(each is None or is_person(each) for each in value)):
            yield from (Frame(_apart(people), inner) for people in _by_frame(value))
            return
    for name, value in data.items():
        if isinstance(value, list | Mapping) and not any(other in str(name).lower() for other in _OTHER_NAMES):
            yield from frames_in(value, inner, depth=depth + 1)


def _coco_frames(data: Mapping[str, Any], inner: Sequence[Mapping[str, Any]]) -> Iterator[Frame]:
    """Yield the pictures of an annotation file, whose sizes are in a separate list."""
    images = data.get("images")
    sizes = (
        {str(each.get("id")): each for each in images if isinstance(each, Mapping)} if isinstance(images, list) else {}
    )
    for people in _by_frame(list(filter(is_person, data["annotations"]))):
        first = people[0] if people else None
        image = sizes.get(str(first.get("image_id"))) if isinstance(first, Mapping) else None
        yield Frame(people, (image, *inner) if image else inner)


def _by_frame(people: Sequence[object]) -> list[list[object]]:
    """Group people by the picture that they refer to."""
    groups: dict[str, list[object]] = {}
    for each in people:
        said = each if isinstance(each, Mapping) else {}
        groups.setdefault(next((str(said[name]) for name in _FRAME_NAMES if name in said), ""), []).append(each)
    return list(groups.values()) or [[]]


def _apart(people: Sequence[object]) -> list[object]:
    """Split bodies that are one long list of points, as in old editors' files."""
    found: list[object] = []
    for each in people:
        points, size = body_of(each), len(JOINT_NAMES)
        is_list = isinstance(points, list) and len(points) > size and all(map(is_point, points))
        if is_list and len(points) % size == 0 and len(points) not in ORDERS:
            found += [points[start : start + size] for start in range(0, len(points), size)]
        else:
            found.append(each)
    return found


def body_of(value: object) -> Any:
    """Return the points of a person's body as the file has them; None if there are none."""
    if not isinstance(value, Mapping):
        return value if are_points(value) else None
    found = (value[name] for name in _BODY_NAMES if name in value)
    return next((points for points in found if are_points(points)), value if are_named(value) else None)


def is_person(value: object) -> bool:
    """Whether this is a person, with or without points."""
    if isinstance(value, Mapping) and any(name in value and value[name] in (None, []) for name in _BODY_NAMES):
        return True
    return body_of(value) is not None
