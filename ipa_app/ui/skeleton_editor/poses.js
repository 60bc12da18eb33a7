// The editor's poses, {width, height, people: [[{x, y, seen}]], parts: [{name: [{x, y, seen}]}]} in pixels of the canvas,
// where parts are each person's hands and face: reading and writing OpenPose files, and moving joints within the canvas.
// Comes before editor.js in the same function (see component.py), and does not access the page.

// `parts` holds for each part of a person its name in OpenPose files, the joint that it is attached to, and its mirror
// image: the other part, and the order of its points.
const { joints, bones, mirrored, restPose, parts } = setup;
const SMALLEST = 0.1; // minimum size of a pose, relative to the canvas's shorter side

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const cents = (value) => Math.round(value * 100) / 100;
const shorterSide = ({ width, height }) => Math.min(width, height);

function readPose(text) {
  if (!text) return null;
  const { people: written, canvas_width: width, canvas_height: height } = JSON.parse(text);
  const people = written.map((person) => readPoints(person.pose_keypoints_2d));
  people.forEach((person) => placeUnseen(person, { width, height }));
  return { width, height, people, parts: written.map(readParts) };
}

const readPoints = (values) =>
  Array.from({ length: values.length / 3 }, (_, i) => {
    const [x, y, confidence] = values.slice(3 * i, 3 * i + 3);
    return { x, y, seen: confidence > 0 };
  });

function readParts(person) {
  const there = Object.entries(parts).filter(([, { file }]) => person[file]?.length);
  return Object.fromEntries(there.map(([name, { file }]) => [name, readPoints(person[file])]));
}

// The points of a part that have a position, visible or hidden; that of the others is unknown.
const placed = (points) => points.filter(({ x, y }) => x !== 0 || y !== 0);

// The points attached to a joint: a hand to its wrist, a face to its nose.
function hanging(pose, { person, joint }) {
  const found = Object.entries(pose.parts[person]).find(([name]) => parts[name].joint === joint);
  return found ? placed(found[1]) : [];
}

// All points of a person that move with the whole figure.
const figure = (pose, person) => [...pose.people[person], ...Object.values(pose.parts[person]).flatMap(placed)];

// Hidden joints have no position in OpenPose files: each is placed relative to its neighbour as in the rest pose.
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

// `whole`: whether to include the positions of hidden joints, for the editor itself; other programs expect zeros there.
function writePose(pose, { whole }) {
  const { width, height, people } = pose;
  const values = ({ x, y, seen }) => (seen ? [x, y, 1] : whole ? [x, y, 0] : [0, 0, 0]);
  const written = people.map((person, i) => {
    const shown = Object.entries(pose.parts[i]).filter(([, points]) => whole || points.some(({ seen }) => seen));
    const more = shown.map(([name, points]) => [parts[name].file, points.flatMap(values)]);
    return { pose_keypoints_2d: person.flatMap(values), ...Object.fromEntries(more) };
  });
  return JSON.stringify({ people: written, canvas_width: width, canvas_height: height });
}

// The distance of a spot from the nearest drawn bone of a person; infinite if none is drawn.
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

// Move joints together from their `starts`, no further than the edge of the canvas; joints outside it are moved inside.
function shift(points, { starts, canvas, dx, dy }) {
  const { left, right, top, bottom } = box(starts);
  const x = clamp(dx, -left, canvas.width - right);
  const y = clamp(dy, -top, canvas.height - bottom);
  points.forEach((point, i) => {
    point.x = clamp(cents(starts[i].x + x), 0, canvas.width);
    point.y = clamp(cents(starts[i].y + y), 0, canvas.height);
  });
}

// Scale all people about their common centre, to no more than the canvas.
function resize(pose, factor) {
  const all = pose.people.flatMap((_, person) => figure(pose, person));
  const { left, right, top, bottom } = box(all);
  const [width, height] = [right - left, bottom - top];
  const scale = Math.min(factor, pose.width / width, pose.height / height);
  if (scale < 1 && Math.max(width, height) * scale < SMALLEST * shorterSide(pose)) return;
  const middle = { x: (left + right) / 2, y: (top + bottom) / 2 };
  const grown = all.map(({ x, y }) => ({ x: middle.x + (x - middle.x) * scale, y: middle.y + (y - middle.y) * scale }));
  shift(all, { starts: grown, canvas: pose, dx: 0, dy: 0 });
}

// Mirror the pose, swapping left and right: the right wrist becomes the left one.
function mirror(pose) {
  const turned = ({ x, ...point }) => ({ ...point, x: cents(pose.width - x) });
  pose.people = pose.people.map((person) => mirrored.map((from) => turned(person[from])));
  pose.parts = pose.parts.map((person) => {
    const others = Object.entries(person).map(([name, points]) => {
      const { other, points: order } = parts[name].mirror;
      const all = points.map((point) => (placed([point]).length ? turned(point) : point));
      return [other, order ? order.map((from) => all[from]) : all];
    });
    return Object.fromEntries(others);
  });
}

// Remove a figure, unless it is the only one.
function remove(pose, person) {
  if (pose.people.length < 2) return;
  pose.people.splice(person, 1);
  pose.parts.splice(person, 1);
}
