// Gradio runs this file as the body of a function of `element` and `props`: `element` contains the language menu.
// Content that is added later is translated as it appears.

const { languages, texts, patterns } = props.setup;
const STORED = "ipa-language";
const ENGLISH = "en";

// ---------------------------------------------------------------- translating a message

const PLACEHOLDER = /\{([a-z_]\w*)(?::(\w+))?\}/gi;
const MARKS = /&lt;(\/?(?:strong|em)|br)&gt;/g;
const SIGNS = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const WIDE = / *([，。：；！？（）、]) */g; // full-width punctuation contains its own space

let language = languages.find(({ code }) => code === ENGLISH);

const asHtml = (text) => text.replace(/[&<>"]/g, (sign) => SIGNS[sign]);
const asText = (text) => text;

function sentence({ key, values }, as) {
  const forms = language.sentences[key];
  // For a count of 1 "one" is tried first: languages without this plural category may still have a form for it.
  const form = ({ count }) => (count === 1 ? "one" : new Intl.PluralRules(language.code).select(count));
  const own = typeof forms === "string" ? forms : (forms[form(values)] ?? forms.other);
  const text = as === asHtml ? asHtml(own).replace(MARKS, "<$1>") : own.replace(/<[^>]+>/g, "");
  return text.replace(PLACEHOLDER, (_, name, format) => {
    const shown = spoken(values[name], as);
    return format === "capital" ? shown.charAt(0).toUpperCase() + shown.slice(1) : shown;
  });
}

function spoken(value, as) {
  if (Array.isArray(value)) return value.map((each) => spoken(each, as)).join(language.sentences["list.separator"]);
  return typeof value === "object" ? sentence(value, as) : as(String(value));
}

const all = (messages, as) =>
  messages.map((each) => spoken(each, as)).join(language.sentences["sentence.separator"]).replace(WIDE, "$1");

// ---------------------------------------------------------------- texts without keys, in components

const asMessage = (told) => (typeof told === "string" ? { key: told, values: {} } : told);
const known = new Map(texts.map(([text, told]) => [text, asMessage(told)]));
const gradio = patterns.map(([english, key]) => {
  const names = [...english.matchAll(PLACEHOLDER)].map(([, name]) => name);
  const parts = english.split(PLACEHOLDER).filter((_, i) => i % 3 === 0);
  return { key, names, expression: new RegExp(`^${parts.map((part) => part.replace(/\W/g, "\\$&")).join("(.+)")}$`, "s") };
});

function messageOf(text) {
  if (known.has(text)) return known.get(text);
  for (const { key, names, expression } of gradio) {
    const found = expression.exec(text);
    if (found) return { key, values: Object.fromEntries(names.map((name, i) => [name, messageOf(found[i + 1]) ?? found[i + 1]])) };
  }
  return null;
}

function lookedUp(text) {
  const message = messageOf(text.trim());
  return message && text.replace(text.trim(), () => all([message], asText));
}

// Returns the function that looks up a text in this place.
function lookUpIn(place) {
  const [, ours] = NAMED.find(([where]) => place?.closest(where)) ?? [];
  if (!ours) return lookedUp;
  return (text) => (ours.test(messageOf(text.trim())?.key) ? lookedUp(text) : null);
}

const read = new WeakMap(); // node -> its last data-known: Gradio reuses the node for the next pictures

// Adds the messages in components; returns whether any of them is new.
function learn(node) {
  if (read.get(node) === node.dataset.known) return false;
  read.set(node, node.dataset.known);
  const told = JSON.parse(node.dataset.known);
  const isNews = told.some(([text]) => !known.has(text));
  told.forEach(([text, message]) => known.set(text, message));
  return isNews;
}

// ---------------------------------------------------------------- updating the page

const TOLD = "data-known";
const ATTRIBUTES = ["placeholder", "title", "aria-label", "alt"];
// Not translated: what visitors type, what files contain, and the words a model knows, which have to be typed as they are.
const UNTOUCHED = "script, style, textarea, pre, code, kbd, [contenteditable], #result-settings, .ipa-typed, #words li";
// Nor are names that users give: of sets, models and library pictures, and some of styles and adapters. In places with such
// names, only texts with these keys are translated.
const NAMED = [
  [":is(#sets-saved, #model) :is([role=option], [role=combobox]), .ipa-library", /(?!)/],
  ["[id$='-style'] :is([role=option], [role=combobox])", /^(page\.)?style\./],
  ["#adapter label, #compared-adapters label", /^adapter\./],
  ["#library-adapter label", /^(adapter\.|page\.library\.filter\.all$)/],
  ["#library-model label", /^page\.library\.filter\.all$/],
  ["#results :is(img, .caption, .thumbnail-item)", /^(adapter\.|result\.|gradio\.thumbnail_of$)/],
];
const before = new WeakMap(); // node -> {key: [English, translation]}, to restore the English

// Restores the original in English, and translates into any other language; `say` returns null for an unknown text.
function change(node, key, now, say, write) {
  const had = before.get(node) ?? {};
  if (language.code === ENGLISH) {
    if (had[key]?.[1] === now()) write(had[key][0]);
    return;
  }
  const english = now();
  if (had[key]?.[1] === english) return; // translated already
  const text = say(english);
  if (text === null || text === english) return;
  write(text);
  if (now() !== english) before.set(node, { ...had, [key]: [english, now()] });
}

function visit(node) {
  if (node.nodeType === Node.TEXT_NODE) {
    const owner = node.parentElement?.closest("[data-message]:not([data-message=''])");
    if (owner) sayWhole(owner);
    else if (!node.parentElement?.closest(UNTOUCHED)) change(node, "text", () => node.data, lookUpIn(node.parentElement), (text) => (node.data = text));
  }
  if (node.nodeType !== Node.ELEMENT_NODE) return;
  visitAttributes(node);
  if (node.matches(CHOICE)) visitChoice(node);
  const { only, besides } = node.dataset;
  if (only) node.hidden = only !== language.code;
  if (besides) node.hidden = besides.split(" ").includes(language.code);
  if (node.matches(".toast-body [content]")) node.dataset.message = node.getAttribute("content");
  if (node.dataset.message) sayWhole(node);
  if (node.dataset.known && learn(node)) visit(document.body);
  node.childNodes.forEach(visit);
}

function sayWhole(node) {
  const messages = JSON.parse(node.dataset.message);
  change(node, "html", () => node.innerHTML, () => all(messages, asHtml), (text) => (node.innerHTML = text));
}

function visitAttributes(node) {
  for (const name of ATTRIBUTES.filter((each) => node.hasAttribute(each))) {
    const told = node.getAttribute(`data-message-${name}`);
    // The label of a dropdown is the page's own, whatever is chosen in it.
    const say = told ? () => all(JSON.parse(told), asText) : node.matches(CHOICE) ? lookedUp : lookUpIn(node);
    change(node, name, () => node.getAttribute(name), say, (text) => node.setAttribute(name, text));
  }
}

// The choice in a dropdown is the value of a text field, which mutation observers do not see. Gradio still reads and writes
// the English, while the field shows the translation.
const CHOICE = "input[role=combobox]";
const VALUE = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");

function visitChoice(field) {
  const [now, write] = [() => VALUE.get.call(field), (text) => VALUE.set.call(field, text)];
  const speak = () => change(field, "value", now, lookUpIn(field), write);
  speak();
  if (Object.hasOwn(field, "value")) return;
  Object.defineProperty(field, "value", {
    get() {
      const [english, said] = before.get(field)?.value ?? [];
      return now() === said ? english : now();
    },
    set(text) {
      write(text);
      speak();
    },
  });
}

const observer = new MutationObserver((changes) => {
  for (const { type, target, addedNodes, attributeName } of changes) {
    if (type === "childList") addedNodes.forEach(visit);
    else if (type === "characterData" || attributeName === TOLD) visit(target);
    else visitAttributes(target);
  }
});

// ---------------------------------------------------------------- labels of gallery pictures

// Gradio only gives screen readers the position of each picture, even if it has a caption.
function nameByCaption() {
  for (const caption of document.querySelectorAll(".thumbnail-item > .caption-label")) {
    const [picture, text] = [caption.parentElement, caption.textContent.trim()];
    if (picture.getAttribute("aria-label") !== text) picture.setAttribute("aria-label", text);
  }
}

new MutationObserver(nameByCaption).observe(document.body, {
  childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: ["aria-label"],
});

// ---------------------------------------------------------------- the menu

const choice = element.querySelector("select");
choice.append(...languages.map(({ code, name }) => new Option(name, code)));

function speak(code) {
  observer.disconnect();
  // By way of English, by which texts are looked up.
  for (const next of new Set([ENGLISH, code])) {
    language = languages.find((each) => each.code === next);
    visit(document.body);
  }
  document.documentElement.lang = language.sentences["language.tag"];
  choice.value = code;
  const what = { childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: [...ATTRIBUTES, TOLD] };
  if (code !== ENGLISH) observer.observe(document.body, what);
}

choice.addEventListener("change", () => {
  speak(choice.value);
  localStorage.setItem(STORED, choice.value);
});

const isThere = (code) => languages.some((each) => each.code === code);
const wanted = [localStorage.getItem(STORED), ...navigator.languages.flatMap((tag) => [tag, tag.split("-")[0]])];
speak(wanted.find(isThere) ?? ENGLISH);
