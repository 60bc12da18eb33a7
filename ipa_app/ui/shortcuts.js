// Gradio runs this file as the body of a function of `element`, which holds the button and the list of the keys. Beside
// the keys it knows the way from the newest picture, small in the bar, to the results.

const list = element.querySelector("dialog");
const TYPED_IN = "textarea, select, [contenteditable], input:not([type=range], [type=checkbox], [type=radio])";
// What closes something of its own at Esc: lists of choices that are open, and the gallery where a picture is large.
const CLOSED_BY_ESCAPE = "[aria-expanded=true], .gallery-container:has(.preview), .fullscreen";

const isShown = (node) => node.getClientRects().length > 0;
const pressOnOpenTab = (which) =>
  [...document.querySelectorAll(`.tabitem .ipa-actions button[id$="-${which}"]`)].find(isShown)?.click();

function showList() {
  if (!list.open) list.showModal();
}

document.addEventListener("keydown", (event) => {
  const { key, target, ctrlKey, metaKey, altKey } = event;
  // A key that composes a sign, as in Chinese, means that sign.
  if (event.defaultPrevented || event.isComposing || event.repeat || document.querySelector("dialog[open]")) return;
  if (key === "Enter" && (ctrlKey || metaKey)) {
    event.preventDefault();
    pressOnOpenTab("generate");
  } else if (key === "Escape" && !target.closest(CLOSED_BY_ESCAPE) && !document.querySelector(".block.fullscreen")) {
    pressOnOpenTab("stop");
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
