// Gradio runs this file as the body of a function of `element` and `trigger`: `element` contains the button that chooses a
// picture for the box above it. Gradio's own icons in the boxes empty them before there is another picture, and choose none:
// here a picture stays until the next one is there.

const ICONS = ".ipa-picture .source-selection button";
const inputOf = (box) => box?.querySelector("input[type=file]");

element.querySelector("button").addEventListener("click", () => {
  inputOf(element.closest(".ipa-slot").querySelector(".ipa-picture"))?.click();
});

async function pictureInClipboard() {
  for (const item of await navigator.clipboard.read()) {
    const type = item.types.find((each) => each.startsWith("image/"));
    if (type) return new File([await item.getType(type)], `pasted.${type.split("/")[1]}`, { type });
  }
  return null;
}

async function paste(input) {
  // Browsers may not let pages read the clipboard, and have none for pages of other computers without HTTPS.
  const picture = await pictureInClipboard().catch(() => null);
  if (!picture) return trigger("apply");
  const chosen = new DataTransfer();
  chosen.items.add(picture);
  input.files = chosen.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

document.addEventListener("click", (event) => {
  const icon = event.target.closest?.(ICONS);
  const input = inputOf(icon?.closest(".ipa-picture"));
  if (!input) return;
  event.stopPropagation();
  if (icon.matches(":first-child")) input.click();
  else paste(input);
}, true);
