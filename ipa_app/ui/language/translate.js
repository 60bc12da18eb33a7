// Gradio runs this file, behind matching.js, as the body of a function of `element` and `props`: `element` holds the
// button. What is shown later is translated as it appears.

const STORED = "ipa-language";
const ATTRIBUTES = ["placeholder", "title", "aria-label", "alt"];
// What visitors type and files say is theirs, and the words a model knows have to be typed as they are.
const UNTOUCHED = "script, style, textarea, pre, code, [contenteditable], #result-settings, #words li, .ipa-note em";

// ---------------------------------------------------------------- putting the words in

let chinese = false;
const before = new WeakMap(); // node -> {key: [English, Chinese]}, to go back

function change(node, key, read, write) {
  const now = read();
  const known = before.get(node) ?? {};
  if (!chinese) {
    if (known[key]?.[1] === now) write(known[key][0]);
    return;
  }
  const text = now && translated(now);
  if (!text || text === now) return;
  before.set(node, { ...known, [key]: [now, text] });
  write(text);
}

function visit(node) {
  if (node.nodeType === Node.TEXT_NODE) {
    if (!node.parentElement?.closest(UNTOUCHED)) change(node, "text", () => node.data, (text) => (node.data = text));
    return;
  }
  if (node.nodeType !== Node.ELEMENT_NODE) return;
  visitAttributes(node);
  node.childNodes.forEach(visit);
}

function visitAttributes(node) {
  for (const name of ATTRIBUTES) {
    if (node.hasAttribute(name)) change(node, name, () => node.getAttribute(name), (text) => node.setAttribute(name, text));
  }
}

const observer = new MutationObserver((changes) => {
  for (const { type, target, addedNodes } of changes) {
    if (type === "childList") addedNodes.forEach(visit);
    else if (type === "characterData") visit(target);
    else visitAttributes(target);
  }
});

// ---------------------------------------------------------------- the button

const button = element.querySelector("button");

function speak(language) {
  chinese = language === "zh";
  document.documentElement.lang = chinese ? "zh-CN" : "en";
  button.textContent = chinese ? "English" : "中文";
  button.lang = chinese ? "en" : "zh-CN";
  observer.disconnect();
  visit(document.body);
  if (chinese) {
    const what = { childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: ATTRIBUTES };
    observer.observe(document.body, what);
  }
}

button.addEventListener("click", () => {
  const language = chinese ? "en" : "zh";
  localStorage.setItem(STORED, language);
  speak(language);
});

speak(localStorage.getItem(STORED) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
