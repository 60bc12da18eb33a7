// Gradio runs this file as the body of a function of `element`, `props` and `trigger`: `element` holds the button, what
// is asked before it leads into the mode, and the start screen. The mode is in the page's address, so that a page that is
// loaded anew is in it again. The button leads into it and not out: visitors would come upon earlier pictures of whoever
// shows the app. Whoever pressed it can go back.

const MODE = "#presentation";
// All that the page keeps in the browser begins so.
const STORED = "ipa-";

const screen = element.querySelector(".ipa-start");
const asked = element.querySelector(".ipa-leads");
const [name, seconds] = location.hash.split("=");
const isOn = name === MODE;
const idle = 1000 * (Number(seconds) || props.idle_s);

element.querySelector("button").addEventListener("click", () => {
  asked.returnValue = ""; // what was answered before
  asked.showModal();
});
asked.addEventListener("close", () => { if (asked.returnValue) location.hash = MODE; });
window.addEventListener("hashchange", () => {
  if (isOn || location.hash.split("=")[0] === MODE) location.reload();
});

const isBusy = () => document.querySelector("#status .ipa-busy") !== null;

// The next one finds nothing of the one before: what was set goes with the page, what was kept is deleted.
function beginAnew() {
  // Whatever keeps the server from answering, and whatever goes wrong here.
  setTimeout(() => location.reload(), 5000);
  trigger("apply");
  sessionStorage.clear();
  Object.keys(localStorage).filter((key) => key.startsWith(STORED)).forEach((key) => localStorage.removeItem(key));
}

if (isOn) {
  document.body.toggleAttribute("data-presented", true);
  screen.showModal();
  // Where nothing is to be pressed, too.
  screen.addEventListener("click", ({ target }) => { if (!target.closest("button")) screen.close(); });
  screen.addEventListener("close", () => { if (screen.returnValue) trigger("select", { number: screen.returnValue }); });
  let last = performance.now();
  const act = () => { last = performance.now(); };
  for (const each of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove", "input"])
    addEventListener(each, act, { capture: true, passive: true });
  const watch = setInterval(() => {
    if (screen.open || isBusy()) act();
    if (performance.now() - last < idle) return;
    clearInterval(watch);
    beginAnew();
  }, 250);
}
