"""The page in Chinese.

`chinese.json` mirrors `ui/texts.py` name by name. `sentences.json` has what the engine and what is under it say while
they run, English and Chinese side by side, and `phrases.json` what stands in their placeholders, kind by kind.
`matching.js` finds a text in them, `translate.js` puts the words in the page.

Gradio's own `gr.I18n` reaches labels only; most of this page's sentences are HTML, captions, messages or come from the
skeleton editor. So the words are exchanged where all of them meet, in the browser, and the API goes on in English.
What a visitor types, what the model knows and what the log says stay as they are.
"""
