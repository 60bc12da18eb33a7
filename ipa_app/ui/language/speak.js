// Gradio runs this file as the body of a function of `element` and `props`: `element` holds the choice of languages.
// What is shown later is said anew as it appears.

const { languages, texts, patterns } = props.setup;
const STORED = "ipa-language";
const ENGLISH = "en";

// ---------------------------------------------------------------- saying a message

const PLACEHOLDER = /\{([a-z_]\w*)(?::(\w+))?\}/gi;
const MARKS = /&lt;(\/?(?:strong|em)|br)&gt;/g;
const SIGNS = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const WIDE = / *([，。：；！？（）、]) */g; // these have their space within themselves

let language = languages.find(({ code }) => code === ENGLISH);

const asHtml = (text) => text.replace(/[&<>"]/g, (sign) => SIGNS[sign]);
const asText = (text) => text;

function sentence({ key, values }, as) {
  const forms = language.sentences[key];
  // A language without that category may all the same have words of its own for a single thing.
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

// ---------------------------------------------------------------- what has no key: texts of components

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

// How what stands in a place is looked up.
function lookUpIn(place) {
  const [, ours] = NAMED.find(([where]) => place?.closest(where)) ?? [];
  if (!ours) return lookedUp;
  return (text) => (ours.test(messageOf(text.trim())?.key) ? lookedUp(text) : null);
}

const read = new WeakMap(); // node -> what it told last: Gradio has the same one tell of the next pictures

// Learns what stands in components; true where any of it is news.
function learn(node) {
  if (read.get(node) === node.dataset.known) return false;
  read.set(node, node.dataset.known);
  const told = JSON.parse(node.dataset.known);
  const isNews = told.some(([text]) => !known.has(text));
  told.forEach(([text, message]) => known.set(text, message));
  return isNews;
}

// ---------------------------------------------------------------- putting the words in

const TOLD = "data-known";
const ATTRIBUTES = ["placeholder", "title", "aria-label", "alt"];
// What visitors type and files say is theirs, and the words a model knows have to be typed as they are.
const UNTOUCHED = "script, style, textarea, pre, code, kbd, [contenteditable], #result-settings, .ipa-typed, #words li";
// So are the names that they give: of sets, of models, and of pictures in the library, whose files say them; of styles and
// adapters some are. Where such names stand, what is said is of these keys alone.
const NAMED = [
  [":is(#sets-saved, #model) :is([role=option], [role=combobox]), .ipa-library", /(?!)/],
  ["[id$='-style'] :is([role=option], [role=combobox])", /^(page\.)?style\./],
  ["#adapter label, #compared-adapters label", /^adapter\./],
  ["#library-adapter label", /^(adapter\.|page\.library\.filter\.all$)/],
  ["#library-model label", /^page\.library\.filter\.all$/],
  ["#results :is(img, .caption, .thumbnail-item)", /^(adapter\.|result\.|gradio\.thumbnail_of$)/],
];
const before = new WeakMap(); // node -> {key: [English, said]}, to go back

// In English goes back to what stood there, in every other language says it; `say` gives null for what is not known.
function change(node, key, now, say, write) {
  const had = before.get(node) ?? {};
  if (language.code === ENGLISH) {
    if (had[key]?.[1] === now()) write(had[key][0]);
    return;
  }
  const english = now();
  if (had[key]?.[1] === english) return; // said already
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
    // A field is labelled by the page, whatever is chosen in it.
    const say = told ? () => all(JSON.parse(told), asText) : node.matches(CHOICE) ? lookedUp : lookUpIn(node);
    change(node, name, () => node.getAttribute(name), say, (text) => node.setAttribute(name, text));
  }
}

// What is chosen in a dropdown is the value of a text field, and no observer hears of values. Gradio goes on to read and
// to write the English, and the field shows what that says.
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

// ---------------------------------------------------------------- what pictures of galleries are called

// Gradio tells screen readers of each nothing but its place, whatever is written under it.
function nameByCaption() {
  for (const caption of document.querySelectorAll(".thumbnail-item > .caption-label")) {
    const [picture, text] = [caption.parentElement, caption.textContent.trim()];
    if (picture.getAttribute("aria-label") !== text) picture.setAttribute("aria-label", text);
  }
}

new MutationObserver(nameByCaption).observe(document.body, {
  childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: ["aria-label"],
});

// ---------------------------------------------------------------- the choice

const choice = element.querySelector("select");
choice.append(...languages.map(({ code, name }) => new Option(name, code)));

function speak(code) {
  observer.disconnect();
  // By way of English, which is what the keys of texts are.
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
