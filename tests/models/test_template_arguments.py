"""Arguments and the date of a run in a chat template, against what transformers itself renders with them."""

from __future__ import annotations

import datetime
import re

import pytest
import transformers.utils.chat_template_utils as rendering

from iit_bench.errors import UserError
from iit_bench.models.contract import ModelOptions
from iit_bench.models.rendering import render_prompt, render_task_chat
from iit_bench.models.template_arguments import directives, fix_template
from tests.conftest import tiny_tokenizer

pytestmark = pytest.mark.oracle

CHAT = [{"role": "user", "content": "Which day is it?"}]
EVERY_DIRECTIVE = " ".join("%" + letter for letter in directives("2026-11-29"))
# Begins with white space, which jinja2 treats by its place in the template.
LLAMA_3_2 = """
  {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
  {%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
  {{ "Today Date: " + date_string }}
{% for m in messages %}{{ m.content }}{% endfor %}"""
IN_A_MACRO = "{% macro header() %}Today is {{ strftime_now('%Y-%m-%d') }}.{% endmacro %}{{ header() }}{{ messages[0].content }}"
QWEN_3 = """\
{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}
{%- if add_generation_prompt %}<|assistant|>
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""
WITH_LISTS = (
    "{{ messages[0].content }}{% for one in extra.list %}{{ one }}{% endfor %}{{ extra.none is none }}{{ extra.yes }}{{ extra.text }}"
)


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 29, 12, 0, 0)


@pytest.mark.parametrize("template", [LLAMA_3_2, IN_A_MACRO, f"{{{{ strftime_now({EVERY_DIRECTIVE!r}) }}}} %Q 100%"])
def test_a_template_is_told_the_given_day_in_every_directive(template, monkeypatch):
    tokenizer = tiny_tokenizer(template)
    settings = fix_template(tokenizer, ModelOptions(date="2026-11-29"), "m")
    assert settings == {"date": "2026-11-29"}
    pinned = render_prompt(tokenizer, CHAT)
    monkeypatch.setattr(rendering, "datetime", FixedClock)
    assert pinned == render_prompt(tiny_tokenizer(template), CHAT)
    assert pinned == render_task_chat(tokenizer, CHAT, True, "m")


def test_without_a_date_it_is_today_and_a_template_without_clock_has_none():
    tokenizer = tiny_tokenizer(LLAMA_3_2)
    (day,) = fix_template(tokenizer, ModelOptions(), "m").values()
    assert abs(datetime.date.fromisoformat(day) - datetime.datetime.now(datetime.UTC).date()) <= datetime.timedelta(days=1)
    assert datetime.date.fromisoformat(day).strftime("%d %b %Y") in render_prompt(tokenizer, CHAT)
    plain = tiny_tokenizer(QWEN_3)
    assert fix_template(plain, ModelOptions(date="2026-11-29"), "m") == {}
    assert plain.chat_template == QWEN_3


@pytest.mark.parametrize(
    ("template", "given"),
    [
        (QWEN_3, {"enable_thinking": False}),
        (QWEN_3, {"enable_thinking": True}),
        (LLAMA_3_2.replace("strftime_now is defined", "date_string is not defined"), {"date_string": "1 Jan 2030"}),
        (WITH_LISTS, {"extra": {"list": [1, 2.5, "x"], "none": None, "yes": True, "text": "\"'\\\n{% %}{{ }}🙂é"}}),
    ],
)
def test_arguments_do_what_transformers_own_do(template, given):
    tokenizer = tiny_tokenizer(template)
    assert fix_template(tokenizer, ModelOptions(chat_template_kwargs=given, date="2026-11-29"), "m")["chat_template_kwargs"] == given
    theirs = tiny_tokenizer(template).apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True, **given)
    assert render_prompt(tokenizer, CHAT) == theirs


def test_named_templates_are_all_fixed():
    tokenizer = tiny_tokenizer(LLAMA_3_2)
    tokenizer.chat_template = {"default": LLAMA_3_2, "rag": IN_A_MACRO}
    fix_template(tokenizer, ModelOptions(date="2026-11-29"), "m")
    assert "29 Nov 2026" in tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert "2026-11-29" in tokenizer.apply_chat_template(CHAT, tokenize=False, chat_template="rag")


@pytest.mark.parametrize(
    ("template", "argument", "sentence"),
    [
        (QWEN_3, "enable_thinkin", "model 'm' has a chat template that does not mention 'enable_thinkin'"),
        (QWEN_3, "if", "does not mention 'if'"),
        (QWEN_3, "messages", "cannot set 'messages', which each request sets itself"),
        (None, "enable_thinking", "model 'm' has no chat template"),
    ],
)
def test_an_argument_that_would_change_nothing_is_refused(template, argument, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        fix_template(tiny_tokenizer(template), ModelOptions(chat_template_kwargs={argument: False}), "m")
