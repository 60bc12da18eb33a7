// Gradio runs this file once for each tab, as the body of a function of `props` and `trigger`. What people change says
// so with "ipa-changed"; where the mode is on and the tab is open, "release" asks for a picture and "input" says that
// the one under way is overtaken. Where somebody has painted since, "apply" asks for it: what was painted is gathered
// first. Nothing is sent to the server while the mode is off.

const { task, editors } = props;
const isOn = () => document.querySelector("#live input")?.checked;
const isOpen = () => document.querySelector(`#tab-${task}-button`)?.getAttribute("aria-selected") === "true";

// While the page opens, one thing changes after another, and all of them are one change: the first picture is asked for
// when there is nothing else to do.
let isOpened = !window.requestIdleCallback;
const whenOpened = (then) => (isOpened ? then() : requestIdleCallback(then, { timeout: 2000 }));

let pending = null;
let painted = editors.length > 0;
function follow() {
  // After what changes has told the page its value; several changes at a time are one.
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

// PixiJS, which draws the editors, tells its developers' tools of each of its canvases by this name.
if (!window.ipaCanvases) {
  const [canvases, told] = [new Set(), window.__PIXI_APP_INIT__];
  window.ipaCanvases = canvases;
  window.__PIXI_APP_INIT__ = (app, ...others) => {
    canvases.add(app);
    told?.(app, ...others);
  };
}

// An editor draws itself anew for half a second after each stroke, in which the browser does not come to gathering what
// was painted. Once is enough; the next event of the mouse wakes it.
function rest(canvas) {
  requestAnimationFrame(() => {
    for (const app of window.ipaCanvases) {
      if (!app.renderer) window.ipaCanvases.delete(app); // taken away, with its picture
      else if (app.canvas === canvas) app.ticker.stop();
    }
  });
}

if (editors.length) {
  const isIn = (event) => event.target.closest?.(editors.join());
  const isButton = (event) => isIn(event) && event.target.closest("button");
  let stroke = null;
  window.addEventListener("ipa-repainted", repaint);
  // An editor tells nobody of a stroke unless it sends all its pictures at each of them. One may end outside of it; and
  // what its buttons do is done when they have been clicked.
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
