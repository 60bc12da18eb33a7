"""The figure: limbs along the skeleton, clothes, head and accessories, as parts in drawing order."""

from __future__ import annotations

import math

from toybox.world.accessories import headwear, neckwear
from toybox.world.clothes import shirt, shirt_line, tail, trousers, trousers_line
from toybox.world.heads import head
from toybox.world.palette import PALETTE, darker, gradient, lighter
from toybox.world.shapes import OUTLINE_WIDTH, ellipse, group, path
from toybox.world.skeleton import Point, Skeleton
from toybox.world.subject import NONE, Subject

ARM_WIDTH = 14.0
SLEEVE_WIDTH = 18.0
LEG_WIDTH = 21.0
Part = tuple[str, str]  # name of the part ("skin", "trousers", "shirt", "scarf", "head"), SVG


def definitions(subject: Subject) -> str:
    """Return the gradients that the figure's fills refer to."""
    fur = PALETTE[subject.fur]
    colors = {
        "fur": fur,
        "pale": lighter(fur, 0.62),
        "deep": darker(fur, 0.34),
        "shirt": PALETTE[subject.shirt],
        "trousers": PALETTE[subject.trousers],
        "beak": "#ffa51f",
        "beakdeep": "#f08a10",
    }
    if subject.accessory != NONE:
        colors["accessory"] = PALETTE[subject.accessory_color]
    return "".join(gradient(name, color) for name, color in colors.items())


def _limb(points: tuple[Point, ...], *, color: str, width: float, line: str) -> str:
    d = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    lit = "M" + " L".join(f"{x - width * 0.14:.1f},{y - width * 0.12:.1f}" for x, y in points)
    return (
        path(d, line=line, width=width + 2 * OUTLINE_WIDTH)
        + path(d, line=color, width=width)
        + path(lit, line=lighter(color, 0.25), width=round(width * 0.32, 1), opacity=0.6)
    )


def _toward(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _leg(subject: Subject, bones: Skeleton, side: str) -> list[Part]:
    hip, knee, ankle = (bones.joints[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
    outward = -1 if side == "r" else 1
    angle = math.degrees(math.atan2(ankle[1] - knee[1], ankle[0] - knee[0])) - 90
    if subject.species in ("duck", "penguin"):
        fill, line = "url(#g-beak)", "#a8530a"
    else:
        fill, line = "url(#g-fur)", darker(PALETTE[subject.fur], 0.55)
    # The foot of a lying or kicking leg is seen from the side.
    foot = ellipse(0 if abs(angle) > 45 else outward * 4, 5, 14.5, 8.8, fill=fill, line=line)
    color = PALETTE[subject.trousers]
    leg = _limb((hip, knee, ankle), color=color, width=LEG_WIDTH, line=trousers_line(subject))
    return [("skin", group(foot, at=ankle, turn=angle)), ("trousers", leg)]


def _hand(subject: Subject, wrist: Point, elbow: Point, *, points: bool) -> str:
    line = darker(PALETTE[subject.fur], 0.55)
    angle = math.degrees(math.atan2(wrist[1] - elbow[1], wrist[0] - elbow[0]))
    finger = path("M4,0 H17", line=line, width=10.5) + path("M4,0 H17", line=PALETTE[subject.fur], width=5.5)
    palm = ellipse(2, 0, 10.5, 10, fill="url(#g-fur)", line=line)
    return group((finger if points else "") + palm, at=wrist, turn=angle)


def _arm(subject: Subject, bones: Skeleton, side: str, *, points: bool) -> list[Part]:
    shoulder, elbow, wrist = (bones.joints[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
    fur = PALETTE[subject.fur]
    bare = _limb((_toward(shoulder, elbow, 0.5), elbow, wrist), color=fur, width=ARM_WIDTH, line=darker(fur, 0.55))
    sleeve = _limb(
        (shoulder, _toward(shoulder, elbow, 0.8)),
        color=PALETTE[subject.shirt],
        width=SLEEVE_WIDTH,
        line=shirt_line(subject),
    )
    return [("skin", bare + _hand(subject, wrist, elbow, points=points)), ("shirt", sleeve)]


def _spine_angle(bones: Skeleton) -> float:
    neck = bones.joints["neck"]
    hips = _toward(bones.joints["r_hip"], bones.joints["l_hip"], 0.5)
    return math.degrees(math.atan2(hips[1] - neck[1], hips[0] - neck[0])) - 90


def parts(subject: Subject, bones: Skeleton, *, pose: str) -> list[Part]:
    """Return the parts of the figure in figure space, back to front."""
    lean = _spine_angle(bones)
    neck = bones.joints["neck"]
    seat = group(trousers(subject), at=neck, turn=lean)
    fur = PALETTE[subject.fur]
    throat = _limb((_toward(neck, bones.head, -0.2), bones.head), color=fur, width=22, line=darker(fur, 0.55))
    body = group(shirt(subject), at=neck, turn=lean)
    raised = min(("r", "l"), key=lambda side: bones.joints[f"{side}_wrist"][1]) if pose == "pointing" else None
    # A raised arm is drawn in front of the head, so that ears and headphones do not hide the hand.
    arms: dict[bool, list[Part]] = {False: [], True: []}
    for side in ("r", "l"):
        in_front = bones.joints[f"{side}_wrist"][1] < neck[1] - 8
        arms[in_front] += _arm(subject, bones, side, points=side == raised)
    legs = [part for side in ("r", "l") for part in _leg(subject, bones, side)]
    if pose in ("sitting", "kicking"):  # the legs come towards the viewer
        lower = [("trousers", seat), *legs, ("shirt", body)]
    else:
        lower = [*legs, ("trousers", seat), ("shirt", body)]
    return [
        ("skin", group(tail(subject), at=neck, turn=lean) + throat),
        *lower,
        *arms[False],
        ("scarf", group(neckwear(subject), at=neck, turn=lean)),
        ("head", group(head(subject, headwear(subject)), at=bones.head, turn=bones.tilt)),
        *arms[True],
    ]
