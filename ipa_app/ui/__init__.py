"""The page and the public API: Gradio and nothing heavier.

`page` builds the Blocks, `panel` and `tabs` lay them out, `form` turns what was entered
into a request, `studio` runs it, `api` names the public endpoints. Every sentence a visitor
reads is in `ipa_app/messages`, by its key.
"""
