// A fallback for web storage. Where browsers are set to store nothing, for example for embedded pages, even reading throws,
// which would break Gradio's page. The fallback keeps values until the page is closed.

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
