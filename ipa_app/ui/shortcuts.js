// Gradio runs this file as the body of a function of `element`, which holds the button and the list of the keys. Beside
// the keys it knows the way from the newest picture, small in the bar, to the results, and what to do with dropped files.

const list = element.querySelector("dialog");
const TYPED_IN = "textarea, select, [contenteditable], input:not([type=range], [type=checkbox], [type=radio])";
// Lists of choices that are open and pictures over the whole page close at Esc; so does the gallery, which says so.
const OPEN_CHOICE = "input[aria-expanded=true]";

const isShown = (node) => node.getClientRects().length > 0;
// What is drawn has been asked for on any tab, and can be stopped on all of them.
const pressFirst = (which, isMeant) =>
  [...document.querySelectorAll(`.tabitem .ipa-actions button[id$="-${which}"]`)].find(isMeant)?.click();

function showList() {
  if (!list.open) list.showModal();
}

document.addEventListener("keydown", (event) => {
  const { key, target, ctrlKey, metaKey, altKey } = event;
  // A key that composes a sign, as in Chinese, means that sign.
  if (event.defaultPrevented || event.isComposing || event.repeat || document.querySelector("dialog[open]")) return;
  if (key === "Enter" && (ctrlKey || metaKey)) {
    event.preventDefault();
    pressFirst("generate", isShown);
  } else if (key === "Escape" && !target.closest(OPEN_CHOICE) && !document.querySelector(".block.fullscreen")) {
    pressFirst("stop", (button) => !button.disabled);
  } else if (key === "?" && !ctrlKey && !metaKey && !altKey && !target.closest(TYPED_IN)) {
    event.preventDefault();
    showList();
  }
});

element.querySelector("button").addEventListener("click", showList);

document.addEventListener("click", ({ target }) => {
  if (!target.closest("#newest button")) return;
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  document.querySelector("#status").scrollIntoView({ behavior });
  document.querySelector("#results button")?.focus({ preventScroll: true });
});

// A file that is dropped beside a box would be opened by the browser in the page's place.
for (const act of ["dragover", "drop"]) {
  window.addEventListener(act, (event) => {
    const { dataTransfer, target } = event;
    if (event.defaultPrevented || !dataTransfer?.types.includes("Files") || target.matches?.("input[type=file]")) return;
    event.preventDefault();
    dataTransfer.dropEffect = "none";
  });
}

// Gradio names every radio button differently, and anew whenever one is chosen, so that to the browser each is a choice of
// its own: Tab stops at all of them, and no arrow key leads from one to the next.
document.addEventListener("keydown", ({ key }) => {
  if (key !== "Tab" && !key.startsWith("Arrow")) return;
  for (const radio of document.querySelectorAll("fieldset[id] input[type=radio]")) radio.name = radio.closest("fieldset").id;
}, true);

// A list of choices opens at any key, Gradio takes those which lead away from it for one, and hears of them when the list
// has been left.
document.addEventListener("keydown", (event) => {
  const opensNothing = ["Tab", "Shift", "Control", "Alt", "Meta"].includes(event.key);
  if (opensNothing && event.target.matches("input[role=combobox]")) event.stopPropagation();
}, true);

// Where the tabs stay in sight above all else, what is chosen by them may lie far below.
document.addEventListener("click", ({ target }) => {
  const bar = target.closest("#tasks > .tab-wrapper");
  if (!bar || !target.closest("[role=tab]") || getComputedStyle(bar).position !== "fixed") return;
  const card = bar.closest(".ipa-card");
  const { top } = card.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) card.scrollIntoView();
});

// Gradio's tabs are stops of the Tab key each; arrow keys lead from one to the next as well, which opens.
document.addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  // With one of these held down, the browser goes back to the page before.
  if (!step || ctrlKey || metaKey || altKey || !target.matches("[role=tab]")) return;
  const tabs = [...target.closest("[role=tablist]").querySelectorAll("[role=tab]")].filter(isShown);
  const next = tabs[(tabs.indexOf(target) + step + tabs.length) % tabs.length];
  next.click();
  next.focus();
});
