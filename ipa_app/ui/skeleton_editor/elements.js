// Helpers that create HTML and SVG elements.

const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, parent = null) {
  const node = document.createElementNS(SVG, tag);
  set(node, attributes);
  parent?.append(node);
  return node;
}

const set = (node, attributes) => Object.entries(attributes).forEach((entry) => node.setAttribute(...entry));

function html(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

