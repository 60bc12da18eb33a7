// Gradio runs this file as the body of a function of `element` and `props`: `element` holds the button,
// `props.dictionary` the pairs of English and Chinese texts. What is shown later is translated as it appears.

const STORED = "ipa-language";
const ATTRIBUTES = ["placeholder", "title", "aria-label"];
// What visitors type and files say is theirs.
const UNTOUCHED = "script, style, textarea, pre, code, [contenteditable], #result-settings, #words";
const SPECIAL = /[.*+?^${}()|[\]\\]/g;
const PLACEHOLDER = /\{(\w+)(?::[^}]*)?\}/g;

const ANYTHING = "((?:(?!\\.\\s).)+?)"; // within one sentence

const exact = new Map();
const patterns = [];
for (const [english, chinese] of props.dictionary) {
  const names = [...english.matchAll(PLACEHOLDER)].map((match) => match[1]);
  if (!names.length) {
    exact.set(english, chinese);
    continue;
  }
  // Splitting at a group leaves its match, the placeholder's name, between the parts.
  const parts = english.split(PLACEHOLDER).map((part, i) => (i % 2 ? ANYTHING : part.replace(SPECIAL, "\\$&")));
  patterns.push({ names, chinese, expression: new RegExp(`^${parts.join("")}$`, "s") });
}

function translated(text) {
  const english = text.trim();
  if (!english) return null;
  const whole = exact.get(english) ?? filled(english) ?? sentences(english);
  return whole === null ? null : text.replace(english, () => whole);
}

function filled(english) {
  for (const { names, chinese, expression } of patterns) {
    const match = expression.exec(english);
    if (match) return chinese.replace(PLACEHOLDER, (_, name) => match[names.indexOf(name) + 1]);
  }
  return null;
}

// The status line joins sentences, and puts what is being done before a colon.
function sentences(english) {
  const parts = english.split(/(?<=\.)\s+|(?<=:)\s+/);
  if (parts.length === 1) return null;
  const known = parts.map((part) => exact.get(part) ?? filled(part) ?? phase(part));
  return known.some((part) => part !== null) ? known.map((part, i) => part ?? parts[i]).join(" ") : null;
}

const phase = (part) => (part.endsWith(":") && exact.has(part.slice(0, -1)) ? `${exact.get(part.slice(0, -1))}：` : null);

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
