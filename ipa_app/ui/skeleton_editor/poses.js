// Poses as the editor holds them, {width, height, people: [[{x, y, seen}]]} in pixels of the canvas: reading and
// writing OpenPose's files, and moving joints about within the canvas. Comes before editor.js in one and the same
// function (see component.py); knows nothing of the page.
"use strict";

const { joints, bones, mirrored, restPose } = props.setup;
const SMALLEST = 0.1; // of the canvas's shorter side: how small a pose may get

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const cents = (value) => Math.round(value * 100) / 100;
const shorterSide = ({ width, height }) => Math.min(width, height);

function readPose(text) {
  if (!text) return null;
  const { people: written, canvas_width: width, canvas_height: height } = JSON.parse(text);
  const people = written.map(({ pose_keypoints_2d: values }) =>
    joints.map((_, i) => ({ x: values[3 * i], y: values[3 * i + 1], seen: values[3 * i + 2] > 0 })),
  );
  people.forEach((person) => placeUnseen(person, { width, height }));
  return { width, height, people };
}

// A joint that is not seen has no place in OpenPose's files: it waits to be shown where it would be on somebody who
// stands, seen from its neighbour.
function placeUnseen(person, canvas) {
  const known = person.map(({ x, y, seen }) => seen || x !== 0 || y !== 0);
  for (let round = 0; round < joints.length; round += 1) {
    for (const [a, b] of bones) {
      if (known[a] === known[b]) continue;
      const [from, to] = known[a] ? [a, b] : [b, a];
      const [dx, dy] = [0, 1].map((axis) => (restPose[to][axis] - restPose[from][axis]) * shorterSide(canvas));
      person[to].x = clamp(cents(person[from].x + dx), 0, canvas.width);
      person[to].y = clamp(cents(person[from].y + dy), 0, canvas.height);
      known[to] = true;
    }
  }
}

// `whole`: with the places of hidden joints, for ourselves; other programs expect zeros there.
function writePose({ width, height, people }, { whole }) {
  const values = ({ x, y, seen }) => (seen ? [x, y, 1] : whole ? [x, y, 0] : [0, 0, 0]);
  const written = people.map((person) => ({ pose_keypoints_2d: person.flatMap(values) }));
  return JSON.stringify({ people: written, canvas_width: width, canvas_height: height });
}

// How far a spot is from the nearest bone of a person that is drawn; infinite where none is.
function distanceToBones(spot, points) {
  const drawn = bones.map((ends) => ends.map((joint) => points[joint])).filter((ends) => ends.every(({ seen }) => seen));
  return Math.min(...drawn.map(([from, to]) => distanceToLine(spot, from, to)));
}

function distanceToLine(spot, from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const along = ((spot.x - from.x) * dx + (spot.y - from.y) * dy) / (dx * dx + dy * dy || 1);
  const share = clamp(along, 0, 1);
  return Math.hypot(from.x + share * dx - spot.x, from.y + share * dy - spot.y);
}

function box(points) {
  const xs = points.map(({ x }) => x);
  const ys = points.map(({ y }) => y);
  return { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
}

// Shift joints from their `starts` together, no further than to the edge of the canvas, and from outside up to it.
function shift(points, { starts, canvas, dx, dy }) {
  const { left, right, top, bottom } = box(starts);
  const x = clamp(dx, -left, canvas.width - right);
  const y = clamp(dy, -top, canvas.height - bottom);
  points.forEach((point, i) => {
    point.x = clamp(cents(starts[i].x + x), 0, canvas.width);
    point.y = clamp(cents(starts[i].y + y), 0, canvas.height);
  });
}

// Make everybody bigger or smaller about their common middle, and no bigger than the canvas.
function resize(pose, factor) {
  const all = pose.people.flat();
  const { left, right, top, bottom } = box(all);
  const [width, height] = [right - left, bottom - top];
  const scale = Math.min(factor, pose.width / width, pose.height / height);
  if (scale < 1 && Math.max(width, height) * scale < SMALLEST * shorterSide(pose)) return;
  const middle = { x: (left + right) / 2, y: (top + bottom) / 2 };
  const grown = all.map(({ x, y }) => ({ x: middle.x + (x - middle.x) * scale, y: middle.y + (y - middle.y) * scale }));
  shift(all, { starts: grown, canvas: pose, dx: 0, dy: 0 });
}

// Left and right change places, as in a mirror: the right wrist becomes the left one.
function mirror(pose) {
  pose.people = pose.people.map((person) =>
    mirrored.map((from) => ({ ...person[from], x: cents(pose.width - person[from].x) })),
  );
}
