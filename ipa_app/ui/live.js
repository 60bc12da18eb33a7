// Gradio runs this file once for each tab, as the body of a function of `props` and `trigger`. Changed inputs dispatch
// "ipa-changed". If live mode is on and the tab is open, "input" then says that the picture under way is overtaken, and
// "release" requests a new one. If something was painted since, "apply" takes the place of "release", as the painting has
// to be exported first. Nothing is sent to the server while live mode is off.

const { task, editors } = props;
const isOn = () => document.querySelector("#live input")?.checked;
const isOpen = () => document.querySelector(`#tab-${task}-button`)?.getAttribute("aria-selected") === "true";

// While the page opens, many inputs change one after another. They count as one change: the first picture is requested
// when the browser is idle.
let isOpened = !window.requestIdleCallback;
const whenOpened = (then) => (isOpened ? then() : requestIdleCallback(then, { timeout: 2000 }));

let pending = null;
let painted = editors.length > 0;
function follow() {
  // After a short delay, so that the new value has reached the page, and several changes at a time count as one.
  pending ??= setTimeout(() => whenOpened(() => {
    pending = null;
    isOpened = true;
    if (!isOn() || !isOpen()) return;
    trigger("input");
    if (painted) trigger("apply");
    else trigger("release");
    painted = false;
  }), 20);
}

window.addEventListener("ipa-changed", follow);

function repaint() {
  painted = true;
  follow();
}

// PixiJS, which draws the editors, passes each of its applications to its developer tools through this function.
if (!window.ipaCanvases) {
  const [canvases, told] = [new Set(), window.__PIXI_APP_INIT__];
  window.ipaCanvases = canvases;
  window.__PIXI_APP_INIT__ = (app, ...others) => {
    canvases.add(app);
    told?.(app, ...others);
  };
}

// An editor redraws itself for half a second after each stroke, which keeps the browser from exporting the painting. One
// redraw is enough; the next pointer event wakes the editor.
function rest(canvas) {
  requestAnimationFrame(() => {
    for (const app of window.ipaCanvases) {
      if (!app.renderer) window.ipaCanvases.delete(app); // destroyed, with its picture
      else if (app.canvas === canvas) app.ticker.stop();
    }
  });
}

if (editors.length) {
  const isIn = (event) => event.target.closest?.(editors.join());
  const isButton = (event) => isIn(event) && event.target.closest("button");
  let stroke = null;
  window.addEventListener("ipa-repainted", repaint);
  // An editor reports strokes only to listeners, for which it uploads all its pictures each time; so pointer events are
  // used. A stroke may end outside the editor. Its buttons act on click.
  window.addEventListener("pointerdown", (event) => { stroke = isIn(event) ? event.target : null; }, true);
  for (const end of ["pointerup", "pointercancel"]) {
    window.addEventListener(end, () => {
      if (stroke) {
        rest(stroke);
        repaint();
      }
      stroke = null;
    });
  }
  window.addEventListener("click", (event) => { if (isButton(event)) repaint(); });
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#live" && isOpen() && !isOn()) document.querySelector("#live input").click();
});
