// Gradio runs this file once for each tab, as the body of a function of `props` and `trigger`. What people change says
// so with "ipa-changed"; where the mode is on and the tab is open, "release" asks for a picture and "input" says that
// the one under way is overtaken. Nothing is sent to the server while the mode is off.

const { task } = props;
const EDITOR = "#inpaint-editor"; // tells nobody of a stroke without sending all of its pictures
const STROKE_MS = [60, 300, 1000];

const isOn = () => document.querySelector("#live input")?.checked;
const isOpen = () => document.querySelector(`#tab-${task}-button`)?.getAttribute("aria-selected") === "true";

let pending = null;
function follow() {
  // After what changes has told the page its value; several changes at a time are one.
  pending ??= setTimeout(() => {
    pending = null;
    if (!isOn() || !isOpen()) return;
    trigger("input");
    trigger("release");
  }, 20);
}

window.addEventListener("ipa-changed", follow);

let strokes = false;
document.addEventListener("pointerdown", ({ target }) => (strokes = Boolean(target.closest?.(EDITOR))), true);
document.addEventListener("pointerup", () => {
  if (!strokes) return;
  // The editor puts a stroke into its picture some frames after it has ended, and says nothing then; the server knows
  // again what it has drawn already.
  for (const wait of STROKE_MS) setTimeout(follow, wait);
}, true);

window.addEventListener("hashchange", () => {
  if (location.hash === "#live" && isOpen() && !isOn()) document.querySelector("#live input").click();
});
