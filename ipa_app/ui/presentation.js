// Gradio runs this file as the body of a function of `element`, `props` and `trigger`: `element` contains the button, its
// confirmation dialog and the start screen. The mode is in the page's address, so that a reloaded page is in it again. The
// button only switches the mode on: if it switched it off, visitors could come upon the presenter's earlier pictures.
// Whoever pressed it can go back in the browser.

const MODE = "#presentation";
// Prefix of everything that the page stores in the browser.
const STORED = "ipa-";

const screen = element.querySelector(".ipa-start");
const asked = element.querySelector(".ipa-leads");
const [name, seconds] = location.hash.split("=");
const isOn = name === MODE;
const idle = 1000 * (Number(seconds) || props.idle_s);

element.querySelector("button").addEventListener("click", () => {
  asked.returnValue = ""; // clears the previous answer
  asked.showModal();
});
asked.addEventListener("close", () => { if (asked.returnValue) location.hash = MODE; });
window.addEventListener("hashchange", () => {
  if (isOn || location.hash.split("=")[0] === MODE) location.reload();
});

const isBusy = () => document.querySelector("#status .ipa-busy") !== null;

// The next visitor finds nothing of the previous one: inputs go with the page, and what the browser stored is deleted.
function beginAnew() {
  // Reload even if the server does not respond, or something fails here.
  setTimeout(() => location.reload(), 5000);
  trigger("apply");
  sessionStorage.clear();
  Object.keys(localStorage).filter((key) => key.startsWith(STORED)).forEach((key) => localStorage.removeItem(key));
}

if (isOn) {
  document.body.toggleAttribute("data-presented", true);
  screen.showModal();
  // A press anywhere on the screen closes it.
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
