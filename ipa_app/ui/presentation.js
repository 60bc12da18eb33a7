// Gradio runs this file as the body of a function of `element`, `props` and `trigger`: `element` holds the button and
// the start screen. The mode is in the page's address, so that a page that is loaded anew is in it again.

const MODE = "#presentation";
// All that the page keeps in the browser begins so.
const STORED = "ipa-";

const screen = element.querySelector("dialog");
const [name, seconds] = location.hash.split("=");
const isOn = name === MODE;
const idle = 1000 * (Number(seconds) || props.idle_s);

element.querySelector("button").addEventListener("click", () => {
  history.replaceState(null, "", isOn ? location.pathname + location.search : MODE);
  location.reload();
});
window.addEventListener("hashchange", () => {
  if ((location.hash.split("=")[0] === MODE) !== isOn) location.reload();
});

const isBusy = () => document.querySelector("#status .ipa-busy") !== null;

// The next one finds nothing of the one before: what was set goes with the page, what was kept is deleted.
function beginAnew() {
  sessionStorage.clear();
  Object.keys(localStorage).filter((key) => key.startsWith(STORED)).forEach((key) => localStorage.removeItem(key));
  trigger("apply");
  // Whatever keeps the server from answering.
  setTimeout(() => location.reload(), 5000);
}

if (isOn) {
  document.body.toggleAttribute("data-presented", true);
  screen.showModal();
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
