"""Prompts of all of Unicode, whole and in halves, up to far beyond the longest that is taken."""

from __future__ import annotations

from hypothesis import strategies as st

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.wording import readable, signs_in
from ipa_app.models.prompt_encoding import chunk_count, tokenize
from tests.fuzz.hostile import examples, holds, texts
from tests.tiny_models import tiny_tokenizer


def prompts() -> st.SearchStrategy[str]:
    repeated = st.builds(lambda text, times: (text * times)[:2500], texts(12), st.integers(1, 2500))
    return st.one_of(texts(300), repeated)


@examples(150)
def test_prompts(count: int) -> None:
    tokenizer = tiny_tokenizer()

    def ask(prompt: str) -> None:
        request = GenerateRequest(task="mix", prompt=prompt, negative_prompt=prompt[::-1])
        assert request.prompt == prompt
        assert all(sign in prompt for sign in signs_in(prompt))
        tokenize(readable(prompt), tokenizer)
        chunk_count(readable(prompt), readable(prompt[::-1]), [tokenizer])

    holds(ask, prompts(), count=count)
