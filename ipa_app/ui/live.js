// Gradio runs this file as the body of a function of `trigger`. Its own slider tells of the mouse alone: by the arrow
// keys it says nothing, and nothing of 0. The browser's "change" comes once for each change that somebody means: when
// the slider is let go of, at every arrow key, and when a number was typed and is left or confirmed.

const PAUSE_MS = 350; // a key that is held down is one change

let pause;
document.addEventListener("change", ({ target }) => {
  if (!target.closest("#scale")) return;
  clearTimeout(pause);
  pause = setTimeout(() => trigger("release"), PAUSE_MS);
});
