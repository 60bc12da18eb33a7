"""The page in the language that a visitor chooses, one of those that `messages/` has files for.

What the server sends is English, and says by what messages it was made: `markup` puts their keys and values into the
HTML, and `speak.js` says them anew in the browser, where all of the page meets. Labels and the like of Gradio's
components have no place for a key: they are looked up, whole and letter by letter, in a list of what the page can say
there. The same is done for Gradio's own words, which follow the browser's language only, and leave much in English.

What a visitor types, what the model knows and what the log says stay as they are, and so does the API.
"""
