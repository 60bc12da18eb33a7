// Gradio runs this file as the body of a function of `element`, which contains the button and the list of the keys. It also
// makes the thumbnail of the newest picture in the bar scroll to the results, and catches files dropped beside a box.

const list = element.querySelector("dialog");
const TYPED_IN = "textarea, select, [contenteditable], input:not([type=range], [type=checkbox], [type=radio])";
// Esc closes open dropdowns and full-screen pictures; so it does the gallery, which prevents the event's default.
const OPEN_CHOICE = "input[aria-expanded=true]";

const isShown = (node) => node.getClientRects().length > 0;
// A run may have been started on any tab, and can be stopped on all of them.
const pressFirst = (which, isMeant) =>
  [...document.querySelectorAll(`.tabitem .ipa-actions button[id$="-${which}"]`)].find(isMeant)?.click();

function showList() {
  if (!list.open) list.showModal();
}

document.addEventListener("keydown", (event) => {
  const { key, target, ctrlKey, metaKey, altKey } = event;
  // Keys that compose a character, as in Chinese, are no shortcuts.
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

// The browser would open a file dropped beside a box in place of the page.
for (const act of ["dragover", "drop"]) {
  window.addEventListener(act, (event) => {
    const { dataTransfer, target } = event;
    if (event.defaultPrevented || !dataTransfer?.types.includes("Files") || target.matches?.("input[type=file]")) return;
    event.preventDefault();
    dataTransfer.dropEffect = "none";
  });
}

// Gradio gives every radio button its own name, and a new one at each choice, so the browser does not group them: Tab stops
// at each of them, and arrow keys do not move between them.
document.addEventListener("keydown", ({ key }) => {
  if (key !== "Tab" && !key.startsWith("Arrow")) return;
  for (const radio of document.querySelectorAll("fieldset[id] input[type=radio]")) radio.name = radio.closest("fieldset").id;
}, true);

// Gradio opens a dropdown at any key, including those that leave it, and handles these only after the focus has moved.
document.addEventListener("keydown", (event) => {
  const opensNothing = ["Tab", "Shift", "Control", "Alt", "Meta"].includes(event.key);
  if (opensNothing && event.target.matches("input[role=combobox]")) event.stopPropagation();
}, true);

// Where the tab bar is fixed to the window, the content of the chosen tab may be far out of view.
document.addEventListener("click", ({ target }) => {
  const bar = target.closest("#tasks > .tab-wrapper");
  if (!bar || !target.closest("[role=tab], .overflow-dropdown button") || getComputedStyle(bar).position !== "fixed") return;
  const card = bar.closest(".ipa-card");
  const { top } = card.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) card.scrollIntoView();
});

// In Gradio only the Tab key moves between tabs; with this, arrow keys do too, and open the tab.
document.addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  // With a modifier, an arrow key is the browser's "Back" or "Forward".
  if (!step || ctrlKey || metaKey || altKey || !target.matches("[role=tab]")) return;
  const tabs = [...target.closest("[role=tablist]").querySelectorAll("[role=tab]")].filter(isShown);
  const next = tabs[(tabs.indexOf(target) + step + tabs.length) % tabs.length];
  next.click();
  next.focus();
});
