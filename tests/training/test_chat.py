"""Which tokens of a chat are learned: each reply and its end, in any template that only appends."""

from __future__ import annotations

from typing import Any

import pytest

from iit_bench.errors import UserError
from iit_bench.training import chat
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
    expected = chat._rendered(tokenizer, text, turns(spoken))
    frame = chat._frame(tokenizer, template)
    assert (frame is not None) == is_framed
    if frame is not None:
        assert chat._found(text, turns(spoken), *frame) in ((None, expected) if name == "trimmed" else (expected,))
    row, replies = chat.encode_any(tokenizer, turns(spoken))
    learned = tokenizer.decode([label for label in row.labels if label != chat.IGNORED])
    assert learned == "".join(text[begin:end] for begin, end in expected) and replies == len(expected)


def test_a_reply_that_is_written_otherwise_once_turns_follow_is_refused() -> None:
    """Else tokens beside the replies would be learned."""
    tokenizer = tiny_tokenizer(TEMPLATES["thought before the last reply"][0])
    assert chat.encode_any(tokenizer, turns(CHATS[0]))[1] == 1
    with pytest.raises(UserError, match="template that only appends"):
        chat.encode_any(tokenizer, turns(CHATS[2]))


def test_a_chat_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, rendered = tiny_tokenizer(), []
    chat.encode_any(tokenizer, turns(CHATS[0]))  # its frame is known from here on
    real = chat.render
    monkeypatch.setattr(chat, "render", lambda *args, **more: (rendered.append(1), real(*args, **more))[1])
    chat.encode_any(tokenizer, [Message("user", ("Is ", Image(b"x"), "?")), *turns(CHATS[2])[1:]])
    assert len(rendered) == 1
