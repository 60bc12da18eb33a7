"""The page in Chinese: `chinese.json` mirrors `ui/texts.py` name by name, `translate.js` puts its words in the page.

Gradio's own `gr.I18n` reaches labels only; most of this page's sentences are HTML, captions, messages or come from the
skeleton editor. So the words are exchanged where all of them meet, in the browser. What a visitor types, what the
model knows and what the log says stay as they are.
"""
