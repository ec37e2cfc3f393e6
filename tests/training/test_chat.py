"""Which tokens of a chat are learned: each reply and its end, in any template that only appends."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.training import chat, last_layer, precision
from iit_bench.types import Image, Message
from tests.conftest import CHAT_TEMPLATE, tiny_tokenizer

PARTS = "m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join"
TEXT = "{% set text = m.content if m.content is string else " + PARTS + " %}"
SYSTEM = "{% if messages[0].role != 'system' %}<|system|>Be short.<|end|>{% endif %}"
EACH = "{% for m in messages %}" + TEXT + "<|{{ m.role }}|>"
ASKED = "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
TEMPLATES = {  # name -> template, whether replies are found in the text
    "of the tests": (CHAT_TEMPLATE, True),
    "default system prompt": (SYSTEM + EACH + "{{ text }}<|end|>\n" + ASKED, True),
    "trimmed": (EACH + "{{ text | trim }}<|end|>" + ASKED, True),
    "header that is text": (CHAT_TEMPLATE.replace("<|{{ m.role }}|>", "{{ m.role }}: ").replace("<|assistant|>", "assistant: "), False),
    "end that is space": (EACH + "{{ text }}\n\n" + ASKED, False),
    "thought before the last reply": (EACH + "{% if loop.last and m.role == 'assistant' %}Hm.{% endif %}{{ text }}<|end|>" + ASKED, False),
}
CHATS = [
    [("user", "Red?"), ("assistant", "yes")],
    [("system", "yes"), ("user", "yes"), ("assistant", "yes"), ("user", "no\n"), ("assistant", "no <b>"), ("user", "open")],
    [("user", ""), ("assistant", " spaces around \n"), ("user", "?"), ("assistant", "Größe 😀")],
]


def turns(spoken: list[tuple[Any, str]]) -> list[Message]:
    return [Message(role, (text,)) for role, text in spoken]


@pytest.mark.parametrize("spoken", CHATS)
@pytest.mark.parametrize("name", list(TEMPLATES)[:-1])
def test_replies_found_in_the_text_are_those_that_rendering_shows(name: str, spoken: list[tuple[Any, str]]) -> None:
    template, is_framed = TEMPLATES[name]
    tokenizer = tiny_tokenizer(template)
    text = chat.render(tokenizer, turns(spoken))
    expected = chat._marked(tokenizer, text, turns(spoken))
    if name != "trimmed":
        assert [text[begin:end].rstrip() for begin, end in expected] == by_prefix(tokenizer, turns(spoken))
    frame = chat._frame(tokenizer, template)
    assert (frame is not None) == is_framed
    if frame is not None:
        assert chat._found(text, turns(spoken), *frame) in ((None, expected) if name == "trimmed" else (expected,))
    _, replies = chat.encode_any(tokenizer, turns(spoken))
    assert learned(tokenizer, turns(spoken)) == "".join(text[begin:end] for begin, end in expected) and replies == len(expected)


def by_prefix(tokenizer: Any, spoken: list[Message]) -> list[str]:
    """What the template adds to the chat before each reply, for templates that only append."""
    text, found = chat.render(tokenizer, spoken), []
    for i, turn in enumerate(spoken):
        if turn.role == "assistant":
            before, upto = chat.render(tokenizer, spoken[:i], generation_prompt=True), chat.render(tokenizer, spoken[: i + 1]).rstrip()
            assert text.startswith(upto) and upto.startswith(before)
            found.append(upto[len(before) :])
    return found


def learned(tokenizer: Any, spoken: list[Message]) -> str:
    row, _ = chat.encode_any(tokenizer, spoken)
    return str(tokenizer.decode([label for label in row.labels if label != chat.IGNORED]))


QWEN3 = (  # as Qwen3's: without their thoughts, and the last one with an empty thought
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    + EACH
    + "{% if m.role == 'assistant' %}{% set text = text.split('</think>')[-1].lstrip('\n') %}"
    "{% if loop.last and loop.index0 > ns.last %}<think>\n\n</think>\n\n{% endif %}{% endif %}{{ text }}<|end|>\n" + ASKED
)


@pytest.mark.parametrize("template", [TEMPLATES["thought before the last reply"][0], QWEN3])
def test_what_a_template_writes_before_the_last_reply_only_is_given_not_learned(template: str) -> None:
    tokenizer = tiny_tokenizer(template)
    assert learned(tokenizer, turns(CHATS[0])) == "yes<|end|>"
    assert learned(tokenizer, turns(CHATS[1])) == "yes<|end|>no <b><|end|>"
    assert learned(tokenizer, turns([("user", "a"), ("assistant", "b c"), ("user", "d"), ("assistant", "e")])) == "b c<|end|>e<|end|>"


@pytest.mark.parametrize(
    ("template", "spoken"),
    [
        (QWEN3, [("user", "a"), ("assistant", "<think>Hm.</think>b"), ("user", "c"), ("assistant", "d")]),
        (EACH + "{{ text | upper }}<|end|>" + ASKED, CHATS[0]),
        (EACH + "{% if not loop.first or m.role == 'user' %}{{ text }}{% endif %}<|end|>" + ASKED, [("assistant", "b")]),
        (
            EACH + "{{ text }}{{ '<|end|>' if loop.last else '' }}" + ASKED,
            [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        ),
    ],
)
def test_a_reply_that_is_written_in_other_words_is_refused(template: str, spoken: list[tuple[Any, str]]) -> None:
    """Else tokens beside the replies would be learned."""
    with pytest.raises(UserError, match="template that only appends"):
        chat.encode_any(tiny_tokenizer(template), turns(spoken))


def test_a_chat_longer_than_the_tokenizer_says_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 4
    with caplog.at_level("WARNING"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("transformers"), "propagate", True)
        assert len(chat.encode_any(tokenizer, turns(CHATS[1]))[0].ids) > 4
    assert not caplog.records


def test_a_chat_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, rendered = tiny_tokenizer(), []
    chat.encode_any(tokenizer, turns(CHATS[0]))  # its frame is known from here on
    real = chat.render
    monkeypatch.setattr(chat, "render", lambda *args, **more: (rendered.append(1), real(*args, **more))[1])
    chat.encode_any(tokenizer, [Message("user", ("Is ", Image(b"x"), "?")), *turns(CHATS[2])[1:]])
    assert len(rendered) == 1


def test_whether_layers_are_recomputed_is_asked_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    """transformers warns of the name that it had for this before."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8}
    model = LlamaForCausalLM(LlamaConfig(**shape))
    keep = torch.tensor([[False, True]])
    whole = model.model(torch.tensor([[1, 2]])).last_hidden_state
    for recomputed in (False, True):
        if recomputed:
            precision.keep_little(model)
        with last_layer.only_at(model, keep):
            some = model.model(torch.tensor([[1, 2]])).last_hidden_state
        torch.testing.assert_close(some[keep], whole[keep])
        assert torch.equal(some[~keep], whole[~keep]) == recomputed
    assert not [one for one in recwarn if issubclass(one.category, FutureWarning)]
