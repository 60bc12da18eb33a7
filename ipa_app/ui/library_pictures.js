// Gradio runs this file as the body of a function of `element`, `trigger` and `watch`: `element` contains the
// library's pictures and the line on the ticked ones. Pressing a picture triggers "select", pressing its heart "like".
// Ticks survive when other pictures are shown, the same ones are laid out again, or the page is reloaded. Before this
// script, library_pictures.py puts `TICKED`, the English text for their number, and `IS_PRESENTED`, whether the page is in
// presentation mode, in which nothing is stored.

const itemOf = (node) => node.closest("li[data-name]");
const boxes = () => [...element.querySelectorAll("input[type=checkbox]")];
const acts = new Map(); // the latest press on each picture's heart
const STORED = "ipa-ticked";
const stored = IS_PRESENTED ? null : sessionStorage.getItem(STORED);
const ticked = (window.ipaTicked = new Set(JSON.parse(stored ?? "[]"))); // for library_pictures.py, in the order of ticking

function show() {
  for (const box of boxes()) box.checked = ticked.has(itemOf(box).dataset.name);
  const number = ticked.size;
  const said = element.querySelector(".ipa-ticked > span");
  said.dataset.message = JSON.stringify([{ key: "library.ticked", values: { number } }]);
  said.textContent = TICKED.replace("{number}", number);
  said.parentElement.toggleAttribute("data-none", !number);
}

function changed() {
  if (!IS_PRESENTED) sessionStorage.setItem(STORED, JSON.stringify([...ticked]));
  show();
}

element.addEventListener("change", ({ target }) => {
  const { name } = itemOf(target).dataset;
  if (target.checked) ticked.add(name);
  else ticked.delete(name);
  changed();
});

function untickAll() {
  ticked.clear();
  changed();
}

window.addEventListener("ipa-untick", untickAll);
window.addEventListener("ipa-gone", ({ detail }) => {
  for (const name of detail) ticked.delete(name);
  changed();
});

element.addEventListener("click", ({ target }) => {
  if (target.closest(".ipa-ticked button")) untickAll();
  const item = itemOf(target);
  if (!item) return;
  const { name } = item.dataset;
  if (target.closest(".ipa-open")) trigger("select", { name });
  const heart = target.closest(".ipa-heart");
  if (!heart) return;
  const liked = heart.getAttribute("aria-pressed") !== "true";
  heart.setAttribute("aria-pressed", liked);
  const act = performance.now();
  acts.set(name, act);
  trigger("like", { name, liked, act });
});

// The outcome of presses on hearts; all but the latest press on each are ignored.
window.addEventListener("ipa-hearts", ({ detail }) => {
  for (const [name, { act, liked }] of Object.entries(detail)) {
    const item = boxes().map(itemOf).find((each) => each.dataset.name === name);
    if (acts.get(name) === act) item?.querySelector(".ipa-heart").setAttribute("aria-pressed", liked);
  }
});

watch("value", show);
show();
