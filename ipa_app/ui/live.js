// Gradio runs this file once for each tab, as the body of a function of `props` and `trigger`. What people change says
// so with "ipa-changed"; where the mode is on and the tab is open, "release" asks for a picture and "input" says that
// the one under way is overtaken. Nothing is sent to the server while the mode is off.

const { task } = props;
const isOn = () => document.querySelector("#live input")?.checked;
const isOpen = () => document.querySelector(`#tab-${task}-button`)?.getAttribute("aria-selected") === "true";

let pending = null;
function follow() {
  // After what changes has told the page its value; several changes at a time are one.
  pending ??= setTimeout(() => {
    pending = null;
    if (!isOn() || !isOpen()) return;
    trigger("input");
    trigger("release");
  }, 20);
}

window.addEventListener("ipa-changed", follow);

window.addEventListener("hashchange", () => {
  if (location.hash === "#live" && isOpen() && !isOn()) document.querySelector("#live input").click();
});
