// Gradio runs this file as the body of a function of `element`, `trigger` and `watch`: `element` holds the pictures of
// the library. A press on one asks for it with "select", a press on its heart says so with "like". What is ticked stays
// ticked when the same pictures are laid out anew.

const itemOf = (node) => node.closest("li[data-name]");
const boxes = () => [...element.querySelectorAll("input[type=checkbox]")];
let ticked = new Set();

const remember = () => {
  ticked = new Set(boxes().filter((box) => box.checked).map((box) => itemOf(box).dataset.name));
};

element.addEventListener("change", remember);

element.addEventListener("click", ({ target }) => {
  const item = itemOf(target);
  if (!item) return;
  const { name } = item.dataset;
  if (target.closest(".ipa-open")) trigger("select", { name });
  const heart = target.closest(".ipa-heart");
  if (!heart) return;
  const liked = heart.getAttribute("aria-pressed") !== "true";
  heart.setAttribute("aria-pressed", liked);
  trigger("like", { name, liked });
});

watch("value", () => {
  for (const box of boxes()) box.checked = ticked.has(itemOf(box).dataset.name);
  remember();
});
