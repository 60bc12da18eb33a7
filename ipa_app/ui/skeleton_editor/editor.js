// The skeleton editor. Gradio runs poses.js, elements.js and this file as the body of one function of `element`,
// `props` and `watch`: `element` contains the empty box, `props.value` is the text of an OpenPose file, and `watch` calls
// back when Python sets the value. component.py puts `setup` before them.

const { jointColours, boneColours, behind, labels } = setup;
const STEP = 0.01; // of an arrow key, relative to the shorter side
const BIG_STEP = 0.05; // with Shift
const GROWTH = 1.1;
const MOST_UNDO = 200;
const ECHO_MS = 5000; // a busy browser takes its time
// Hit distances for joints and bones, relative to the shorter side; larger for touch, as fingers are broad.
const REACH = { joint: 0.05, bone: 0.012 };
const TOUCH_REACH = { joint: 0.065, bone: 0.035 };
const TURNS = { PageUp: -1, PageDown: 1 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// ---------------------------------------------------------------- state, undo and redo

const opened = props.value ?? "";
let current = opened; // the value on the page
let usedElsewhere = false; // whether anything outside the editor was pressed, typed or dropped since it opened
let chosen = current; // the value that reset restores
let pose = readPose(current);
let selected = null; // {person, joint}: the last one touched
let touched = null; // the joint under the last press, null if there was none
let drag = null;
const done = [];
const undone = [];
const told = new Map(); // values sent to the page lately, with their times

function show(text) {
  current = text;
  hold(readPose(text));
  draw();
}

// Replaces the pose: a drag ends, and the selection only stays if the new pose has that person.
function hold(another) {
  pose = another;
  drag = null;
  if (!selected || pose?.people[selected.person]) return;
  selected = null;
  say({ text: "" });
}

function remember() {
  done.push(current);
  if (done.length > MOST_UNDO) done.shift();
  undone.length = 0;
}

function commit() {
  const text = writePose(pose, { whole: true });
  if (text !== writePose(readPose(current), { whole: true })) {
    remember();
    tell(text);
  }
  draw();
}

function tell(text) {
  current = text;
  pass(text);
}

function pass(text) {
  const now = performance.now();
  for (const [old, when] of told) if (now - when > ECHO_MS) told.delete(old);
  told.set(text, now);
  props.value = text;
}

// During a drag, values are only sent to the page if a live picture follows them; undo steps are whole drags.
function passOnTheWay() {
  if (document.body.hasAttribute("data-live")) pass(writePose(pose, { whole: true }));
}

function passBack() {
  if (props.value !== current) pass(current);
}

function travel(from, to) {
  if (!from.length) return;
  to.push(current);
  show(from.pop());
  tell(current);
}

function toggle({ person, joint }) {
  const point = pose.people[person][joint];
  point.seen = !point.seen;
  hanging(pose, { person, joint }).forEach((one) => (one.seen = point.seen));
  commit();
  say(jointLabel({ person, joint }));
}

// ---------------------------------------------------------------- the picture

const root = element.querySelector(".ipa-skeleton");
const svg = make("svg", { class: "ipa-skel-picture", role: "application", "aria-label": labels.picture });
const tools = html("div", "ipa-skel-tools");
const said = html("p", "ipa-help ipa-skel-said");
let backdrop = null;
let figures = []; // per person: {lines, dots, details}

// A joint's label in English, and its messages, from which the page's script translates it.
function jointLabel({ person, joint }) {
  const parts = [[joints[joint], `joint.${joints[joint].replace(" ", "_")}`]];
  const number = person + 1;
  if (pose.people.length > 1) parts.push([labels.person.replace("{number}", number), "page.skeleton.person", { number }]);
  if (!pose.people[person][joint].seen) parts.push([labels.hidden, "page.skeleton.hidden"]);
  const messages = parts.map(([, key, values = {}]) => ({ key, values }));
  const whole = { key: "page.skeleton.joint", values: { parts: messages } };
  return { text: parts.map(([text]) => text).join(", "), message: JSON.stringify([whole]) };
}

function say({ text, message = "" }) {
  said.dataset.message = message;
  said.textContent = text;
}

// Elements are only rebuilt when the number of people changes, so that the focused one stays.
function build() {
  svg.replaceChildren();
  if (backdrop) svg.append(backdrop);
  figures = pose.people.map((_, person) => {
    const group = make("g", {}, svg);
    const lines = bones.map((_, i) => make("line", { class: "ipa-skel-bone", stroke: boneColours[i] }, group));
    const dots = joints.map((_, joint) => {
      const node = make("g", { class: "ipa-skel-joint", role: "button" }, group);
      Object.assign(node.dataset, { person, joint });
      for (const part of ["hit", "ring", "dot"]) make("circle", { class: `ipa-skel-${part}` }, node);
      return node;
    });
    const details = make("g", { class: "ipa-skel-details" });
    group.insertBefore(details, dots[0]);
    return { lines, dots, details };
  });
}

function draw() {
  root.hidden = !pose;
  if (!pose) return;
  if (figures.length !== pose.people.length) build();
  set(svg, { viewBox: `0 0 ${pose.width} ${pose.height}` });
  if (backdrop) set(backdrop, { width: pose.width, height: pose.height });
  pose.people.forEach((person, number) => {
    const { lines, dots, details } = figures[number];
    lines.forEach((line, i) => drawBone(line, ...bones[i].map((joint) => person[joint])));
    dots.forEach((node, joint) => drawJoint(node, person[joint], { person: number, joint }));
    drawDetails(details, pose.parts[number]);
  });
  buttons.undo.disabled = !done.length;
  buttons.redo.disabled = !undone.length;
  buttons.hide.disabled = !selected;
  buttons.remove.disabled = !selected || pose.people.length < 2;
}

function drawBone(line, from, to) {
  line.style.display = from.seen && to.seen ? "" : "none";
  set(line, { x1: from.x, y1: from.y, x2: to.x, y2: to.y, "stroke-width": (9 / 512) * shorterSide(pose) });
}

// Hands and face, which are shown but cannot be dragged.
function drawDetails(group, details) {
  const unit = shorterSide(pose) / 512;
  group.replaceChildren();
  for (const [name, points] of Object.entries(details)) {
    const { lines, colours, dot, radius } = parts[name].look;
    lines.forEach(([from, to], i) => {
      const [a, b] = [points[from], points[to]];
      if (!a.seen || !b.seen) return;
      make("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, stroke: colours[i], "stroke-width": 2 * unit }, group);
    });
    for (const { x, y, seen } of points)
      if (seen) make("circle", { cx: x, cy: y, r: radius * unit, fill: dot }, group);
  }
}

function drawJoint(node, { x, y, seen }, which) {
  const [hit, ring, dot] = node.children;
  const unit = shorterSide(pose);
  const { text, message } = jointLabel(which);
  // All joints are a single tab stop: the one that was selected last.
  const { person, joint } = selected ?? { person: 0, joint: 0 };
  set(node, { tabindex: which.person === person && which.joint === joint ? 0 : -1 });
  set(node, { transform: `translate(${x} ${y})`, "data-message-aria-label": message, "aria-label": text });
  node.classList.toggle("ipa-skel-hidden", !seen);
  set(hit, { r: REACH.joint * unit });
  set(ring, { r: 0.026 * unit, "stroke-width": 0.008 * unit });
  // With a fixed pathLength, the dashes of a hidden joint are the same on every canvas.
  set(dot, { r: 0.014 * unit, fill: jointColours[which.joint], "stroke-width": 0.004 * unit, pathLength: 40 });
}

// ---------------------------------------------------------------- mouse, finger and keys

function spot(event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
}

function which(node) {
  const found = node.closest?.(".ipa-skel-joint");
  return found && { person: Number(found.dataset.person), joint: Number(found.dataset.joint) };
}

// The target of a press: a joint or else a person, by their bones. Found by distance, as joints of a face are close
// together, and browsers do not report thin elements under a finger.
function meant(event) {
  const at = spot(event);
  const reach = event.pointerType === "touch" ? TOUCH_REACH : REACH;
  const within = (far, part) => far <= reach[part] * shorterSide(pose);
  const all = pose.people.flatMap((points, person) => points.map((point, joint) => ({ person, joint, point })));
  const far = ({ point }) => Math.hypot(point.x - at.x, point.y - at.y);
  const joint = all.reduce((best, one) => (far(one) < far(best) ? one : best));
  if (within(far(joint), "joint")) return joint;
  const person = pose.people.findIndex((points) => within(distanceToBones(at, points), "bone"));
  return person < 0 ? null : { person };
}

function select(one) {
  selected = { person: one.person, joint: one.joint };
  say(jointLabel(selected));
  draw();
}

// The joint `by` steps after or before another one, going on to the next or previous figure.
function beside({ person, joint }, by) {
  const dots = figures.flatMap((each) => each.dots);
  return dots.at((person * joints.length + joint + by) % dots.length);
}

svg.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || drag) return;
  const one = meant(event);
  touched = one?.point ? one : null;
  if (!one) return;
  if (touched) figures[one.person].dots[one.joint].focus({ preventScroll: true });
  const points = touched ? [one.point, ...hanging(pose, one)] : figure(pose, one.person);
  drag = { pointer: event.pointerId, from: spot(event), points, starts: points.map((point) => ({ ...point })) };
  svg.setPointerCapture(event.pointerId);
});

svg.addEventListener("pointermove", (event) => {
  if (drag?.pointer !== event.pointerId) return;
  const to = spot(event);
  const [dx, dy] = [to.x - drag.from.x, to.y - drag.from.y];
  shift(drag.points, { starts: drag.starts, canvas: pose, dx, dy });
  draw();
  passOnTheWay();
});

svg.addEventListener("pointerup", (event) => {
  if (drag?.pointer !== event.pointerId) return;
  drag = null;
  commit();
  passBack();
});

// A dragging finger does not scroll the page; elsewhere it does. This is not done with `touch-action`, which browsers
// ignore on elements inside SVG.
svg.addEventListener("touchmove", (event) => drag && event.preventDefault(), { passive: false });
svg.addEventListener("pointercancel", (event) => {
  if (drag?.pointer !== event.pointerId) return;
  show(current);
  passBack();
});
svg.addEventListener("focusin", (event) => which(event.target) && select(which(event.target)));
svg.addEventListener("dblclick", () => touched && toggle(touched));
// Otherwise the focus would move to the topmost joint under the pointer.
svg.addEventListener("mousedown", (event) => drag && event.preventDefault());

svg.addEventListener("keydown", (event) => {
  const one = which(event.target);
  if (!one || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in ARROWS) {
    const by = (event.shiftKey ? BIG_STEP : STEP) * shorterSide(pose);
    const [dx, dy] = ARROWS[event.key].map((way) => way * by);
    const points = [pose.people[one.person][one.joint], ...hanging(pose, one)];
    shift(points, { starts: points.map((point) => ({ ...point })), canvas: pose, dx, dy });
    commit();
  } else if (event.key in TURNS) {
    beside(one, TURNS[event.key]).focus();
  } else if (["Delete", "Backspace", "Enter", " "].includes(event.key)) {
    toggle(one);
  } else return;
  event.preventDefault();
});

root.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (!(event.ctrlKey || event.metaKey) || !["z", "y"].includes(key)) return;
  event.preventDefault();
  if (key === "y" || event.shiftKey) travel(undone, done);
  else travel(done, undone);
});

// ---------------------------------------------------------------- the buttons

function change(how) {
  return () => {
    how(pose);
    commit();
  };
}

function removeFigure() {
  if (!selected) return;
  remove(pose, selected.person);
  selected = null;
  commit();
  say({ text: "" });
}

function reset() {
  hold(readPose(chosen));
  commit();
}

function toggleBehind() {
  const source = backdrop ? null : behind.map((where) => document.querySelector(where)?.src).find(Boolean);
  if (!backdrop && !source) return say({ text: labels.nothing_behind });
  backdrop?.remove();
  backdrop = source ? make("image", { class: "ipa-skel-behind", href: source }) : null;
  if (backdrop) svg.prepend(backdrop);
  buttons.behind.setAttribute("aria-pressed", String(Boolean(backdrop)));
  return draw();
}

async function copy() {
  const text = writePose(pose, { whole: false });
  try {
    await navigator.clipboard.writeText(text);
    say({ text: labels.copied });
  } catch {
    // Browsers only allow the clipboard on pages from https or localhost, and with permission.
    say({ text: labels.not_copied });
  }
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([writePose(pose, { whole: false })], { type: "application/json" }));
  link.download = "pose.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const actions = {
  undo: () => travel(done, undone),
  redo: () => travel(undone, done),
  mirror: change(mirror),
  bigger: change(() => resize(pose, GROWTH)),
  smaller: change(() => resize(pose, 1 / GROWTH)),
  hide: () => selected && toggle(selected),
  remove: removeFigure,
  reset,
  behind: toggleBehind,
  copy,
  download,
};
const buttons = {};
for (const [name, action] of Object.entries(actions)) {
  buttons[name] = html("button", "", labels[name]);
  Object.assign(buttons[name], { type: "button", title: labels[`${name}_help`] ?? "" });
  buttons[name].dataset.action = name;
  buttons[name].addEventListener("click", action);
  tools.append(buttons[name]);
}
buttons.behind.setAttribute("aria-pressed", "false");
said.setAttribute("role", "status");

for (const kind of ["pointerdown", "keydown", "drop"]) {
  document.addEventListener(kind, ({ target }) => (usedElsewhere ||= !element.contains(target)), { capture: true });
}

watch("value", () => {
  const text = props.value ?? "";
  if (text === current) return;
  // A busy page may set the initial value again after somebody has begun to edit.
  if (text === opened && !usedElsewhere) return void (props.value = current);
  // Values sent to the page come back, and after quick key presses, only when the next one has been sent.
  if (performance.now() - (told.get(text) ?? -Infinity) < ECHO_MS) return void (props.value = current);
  if (pose) remember();
  chosen = text;
  selected = null;
  say({ text: "" });
  show(text);
});

root.append(html("p", "ipa-help", labels.help), svg, said, tools);
draw();
