"""Translation of the page into the language that a visitor chooses, one of those with a file in `messages/`.

The server sends English, together with the messages that it was made from: `markup` puts their keys and values into the
HTML, and `speak.js` translates them in the browser, where all parts of the page come together. Labels and the like of
Gradio's components have no place for a key: their whole texts are looked up, exactly, in a list of the texts that can
appear there. So are Gradio's own texts, which otherwise follow the browser's language only, and are often untranslated.

What visitors type, the words that a model knows, the log and the API are not translated.
"""
