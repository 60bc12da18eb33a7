// Gradio runs this file as the body of a function of `element` and `watch`: `element` contains the live picture. Where the
// columns are stacked, a live picture that is scrolled out of view floats over the page (style.css): large, or small in the
// bar if it was pressed, while it would cover what is painted or pressed there, or if it is outdated.

const IN_USE = ".pixi-target, .ipa-skel-picture, #result-actions, #sharing";
const OUTDATED = "#live-note .ipa-failed";
const box = element.closest("#live-picture");
let isSmall = false;
let isInsisted = false; // whether it was pressed to be large even where it is in the way

// Its rectangle while it is large, as in style.css.
function lies() {
  const image = box.querySelector("img");
  const width = Math.min(0.38 * innerWidth, 0.32 * innerHeight, 200);
  const height = image?.naturalWidth ? (width * image.naturalHeight) / image.naturalWidth : width;
  const [right, bottom] = [innerWidth - 12, innerHeight - 76];
  return { left: right - width, right, top: bottom - height, bottom };
}

function isInTheWay() {
  if (document.querySelector(OUTDATED)) return true;
  const { left, right, top, bottom } = lies();
  return [...document.querySelectorAll(IN_USE)].some((each) => {
    const under = each.getBoundingClientRect(); // empty if it is not shown
    return under.width && under.left < right && under.right > left && under.top < bottom && under.bottom > top;
  });
}

const over = new AbortController();
function look() {
  if (!box.isConnected) return over.abort();
  const isOver = isInTheWay();
  isInsisted &&= isOver;
  box.toggleAttribute("data-small", isSmall || (isOver && !isInsisted));
}

element.addEventListener("click", ({ target }) => {
  if (!target.closest(".ipa-live-size")) return;
  const wasSmall = box.hasAttribute("data-small");
  isSmall = !wasSmall && !isInTheWay();
  isInsisted = wasSmall;
  look();
});

for (const moved of ["scroll", "resize"]) addEventListener(moved, look, { signal: over.signal, passive: true });
const grown = new ResizeObserver(look);
grown.observe(document.body);
over.signal.addEventListener("abort", () => grown.disconnect());
watch("value", look);
new IntersectionObserver(([seen]) => {
  box.toggleAttribute("data-away", !seen.isIntersecting);
  look();
}).observe(box);
