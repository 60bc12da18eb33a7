"""The page and the public API, on Gradio and nothing heavier.

`page` builds the Blocks, `panel` and `tabs` lay them out, `form` turns the inputs into a request, `studio` runs it,
`api` defines the public endpoints. Every sentence that a visitor reads is in `ipa_app/messages`, by its key.
"""
