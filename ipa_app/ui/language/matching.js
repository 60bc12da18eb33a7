// Finding an English text of the page in the dictionary although it has names and numbers in it. Comes before
// translate.js in one and the same function, whose `props.dictionary` and `props.phrases` are those of switch.py.
// Texts come in and go out as plain text; nothing here makes HTML.

const PLACEHOLDER = /\{([a-z_]+\d*)(?::[^}]*)?\}/g;
const SPECIAL = /[.*+?^${}()|[\]\\]/g;
const NUMBER = "([-+]?[\\d.,]*\\d)";
const ANYTHING = "((?:(?!\\.\\s).)+?)"; // within one sentence
const AS_MUCH = "((?:(?!\\.\\s).)+)"; // the same, where what was typed looks like a part of the sentence
const LONGEST = 1000; // nothing the page says is longer, and searching long texts takes time

const kindOf = (name) => name.replace(/\d+$/, "");

function tableOf(pairs) {
  const table = { exact: new Map(), patterns: [] };
  for (const [english, chinese] of pairs) {
    const names = [...english.matchAll(PLACEHOLDER)].map((match) => match[1]);
    if (names.length) table.patterns.push(patternOf(english, chinese, names));
    else table.exact.set(english, chinese);
  }
  // What has more words of its own says more surely what a text is.
  table.patterns.sort((one, other) => other.own - one.own);
  return table;
}

function patternOf(english, chinese, names) {
  const own = english.replace(PLACEHOLDER, "").length;
  return { names, chinese, own, expressions: [ANYTHING, AS_MUCH].map((some) => expressionOf(english, some)) };
}

function expressionOf(english, some) {
  // Splitting at a group leaves its match, the placeholder's name, between the parts.
  const parts = english.split(PLACEHOLDER).map((part, i) => {
    if (i % 2 === 0) return part.replace(SPECIAL, "\\$&");
    return kindOf(part) === "number" ? NUMBER : some;
  });
  return new RegExp(`^${parts.join("")}$`, "s");
}

const kinds = new Map(Object.entries(props.phrases).map(([kind, pairs]) => [kind, tableOf(pairs)]));
const page = tableOf(props.dictionary);

function found(text, table) {
  return table.exact.get(text) ?? filled(text, table);
}

function filled(text, table) {
  for (const { names, chinese, expressions } of table.patterns) {
    for (const expression of expressions) {
      const match = expression.exec(text);
      if (!match) break;
      const values = names.map((name, i) => valueOf(name, match[i + 1]));
      if (!values.includes(null)) return chinese.replace(PLACEHOLDER, (_, name) => values[names.indexOf(name)]);
    }
  }
  return null;
}

function valueOf(name, text) {
  if (kindOf(name) === "label") return found(text, page);
  const table = kinds.get(kindOf(name));
  return table ? found(text, table) : text;
}

// Sentences that begin a line have a capital letter there.
const sentence = (text) => found(text, page) ?? found(text[0].toLowerCase() + text.slice(1), page);

// The status line joins sentences. Chinese ones need no space between them.
function sentences(text) {
  const parts = text.split(/(?<=\.)\s+/);
  const known = parts.map(sentence);
  if (parts.length === 1 || known.every((part) => part === null)) return null;
  return known.map((part, i) => part ?? `${parts[i]} `).join("").trim();
}

// The Chinese for a text of the page; null where there is none.
function translated(text) {
  const english = text.trim();
  if (!english || english.length > LONGEST) return null;
  const whole = sentence(english) ?? sentences(english);
  // Chinese punctuation has its space within itself.
  return whole === null ? null : text.replace(english, () => whole).replace(/(?<=[，。：；！？）])\s+$|^\s+(?=[，。：；！？（])/g, "");
}
