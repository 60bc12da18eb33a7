// What browsers keep for a page: where they are told to keep nothing, as for a page within another one, even asking
// throws, which would be the end of Gradio's page. In its place comes what is kept until the page closes.

class Kept {
  getItem(key) {
    return Object.hasOwn(this, key) ? this[key] : null;
  }

  setItem(key, value) {
    this[key] = String(value);
  }

  removeItem(key) {
    delete this[key];
  }

  clear() {
    Object.keys(this).forEach((key) => this.removeItem(key));
  }
}

for (const name of ["localStorage", "sessionStorage"]) {
  try {
    window[name]?.getItem("");
  } catch {
    Object.defineProperty(window, name, { value: new Kept() });
  }
}
