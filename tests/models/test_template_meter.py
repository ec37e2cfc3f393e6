"""Every render of a chat template is bounded, by counts that are the same everywhere, and what it writes is what transformers writes."""
# ruff: noqa: E501 - templates

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from iit_bench.errors import ItemError
from iit_bench.models import template_meter
from iit_bench.models.rendering import apply_template, render_prompt
from tests.conftest import tiny_tokenizer

ASK = [{"role": "user", "content": "What is the capital of France?"}]
PARTS = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
LONG = [turn for n in range(20) for turn in (ASK[0] | {"content": f"{n} " * n}, {"role": "assistant", "content": "<think>a</think>Paris"})]
TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"type": ["string", "null"], "enum": [1, 2.5]}}}}}
]

# What templates of the Hub do: macros that call each other, namespaces, loops of all kinds, set blocks, filters, methods, formats.
WRITES = {
    "plain": "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}{% if add_generation_prompt %}<|a|>{% endif %}",
    "parts": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content if p.type == 'text' %}"
    "{{ loop.index ~ '/' ~ loop.length ~ p.text }}{% else %}none{% endfor %}{% endif %}{% endfor %}",
    "macros": "{%- macro show(value, depth=0) -%}{%- if value is mapping -%}{ {%- for k, v in value | dictsort %}{{ k }}:{{ show(v, depth + 1) }}"
    "{{ ',' if not loop.last }}{%- endfor -%} }{%- elif value is string -%}{{ '\"' + value + '\"' }}{%- elif value is sequence -%}"
    "[{%- for v in value -%}{{ show(v, depth=depth + 1) }} {% endfor -%}]{%- else -%}{{ value }}{%- endif -%}{%- endmacro -%}{{ show(messages) }}",
    "namespace": "{% set ns = namespace(n=0, text='', last=messages | length - 1) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}"
    "{% set ns.text = ns.text ~ m.role[0] %}{% if loop.index > 5 %}{% break %}{% elif loop.index % 2 %}{% continue %}{% endif %}"
    "{{ m.content }}{% endfor %}{{ ns.n }}{{ ns.text }}{{ ns.last }}",
    "thinking": "{% for m in messages %}{% set content = m.content %}{% if content is string and '</think>' in content %}{% set content = "
    "content.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ content }}{% endfor %}",
    "blocks": "{% set head %}{% for m in messages %}{{ m.role | upper }} {% endfor %}{% endset %}{% set tail | trim %}  x {% endset %}{{ head + tail }}"
    "{% filter replace('a', 'b') %}banana {{ head }}{% endfilter %}{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in{% endcall %}"
    "{% with a = head ~ 'w' %}{{ a }}{% endwith %}{% block one %}<{{ messages | length }}>{% endblock %}{{ self.one() }}",
    "filters": "{{ messages | map(attribute='role') | unique | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
    "{{ messages | tojson(indent=2) }}{{ [1, 2, 3] | sum }}{{ 'a-b' | replace('-', '+') | indent(4) }}{{ (messages | first).role | title }}"
    "{{ '%s has %03d' | format('x', 7) }}{{ '%s %s' % ('a', 2) }}{{ '{:>5}|{}'.format('a', 2) }}{{ ', '.join(['a', 'b']) }}{{ 'ab' * 3 }}"
    "{{ 2 ** 10 }}{{ 7 // 2 }}{{ -7 % 3 }}{{ [0] * 3 }}{{ range(3) | list }}{{ 'a'.center(9) }}{{ {'a': [1]} }}{{ (1, 'b') }}{{ 2.5 | round }}",
    "recursive": "{% for v in [[1, [2, 3]], [4]] recursive %}{% if v is iterable %}({{ loop(v) }}){% else %}{{ v }}{% endif %}{% endfor %}",
    "tools": "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}{% generation %}{{ messages[-1].role }}{% endgeneration %}",
    "undefined": "{{ nothing }}{% for x in nothing %}{% endfor %}{{ messages[0].nothing | default('none') }}{{ cycler('a', 'b').next() }}",
    "refuses": "{% if messages | length > 1 %}{{ raise_exception('one turn only, got ' ~ messages | length) }}{% endif %}ok",
    "fails": "{{ messages[0].content + 1 }}",
    "calls nothing": "{{ nothing('x') }}",
    "no list": "{% for x in 5 %}{% endfor %}",
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", WRITES)
def test_a_counted_template_writes_what_transformers_writes(name: str) -> None:
    for chat in (ASK, PARTS, LONG):
        for settings in ({"add_generation_prompt": True}, {"tools": TOOLS}):
            try:
                theirs = tiny_tokenizer(WRITES[name] + "{# another text #}").apply_chat_template(chat, tokenize=False, **settings)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the same here
                theirs = str(error)
            try:
                ours = apply_template(tiny_tokenizer(WRITES[name]), chat, **settings)
            except Exception as error:  # noqa: BLE001
                ours = str(error)
            assert ours == theirs or theirs in ours


@pytest.mark.oracle
@pytest.mark.smollm2
def test_smollm2_is_asked_as_transformers_asks_it(smollm2: Any) -> None:
    from transformers import AutoTokenizer

    ours, theirs = (AutoTokenizer.from_pretrained(smollm2) for _ in range(2))
    theirs.chat_template += "{# another text #}"
    for chat in (ASK, LONG):
        assert render_prompt(ours, chat) == theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


STEPS, LENGTH, DIGITS = "takes too many steps", "writes more than", "numbers of too many digits"
RUNS_AWAY = {
    "loops": ("{% for i in range(3000) %}{% for j in range(3000) %}{% endfor %}{% endfor %}", STEPS),
    "loops with a test": ("{% for i in range(3000) %}{% for j in range(3000) if false %}{% endfor %}{% endfor %}", STEPS),
    "macros": ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}", STEPS),
    "blocks": ("{% set ns = namespace(n=0) %}{% block a %}{% set ns.n = ns.n + 1 %}{{ self.b() }}{{ self.b() }}{% endblock %}"
               "{% block b %}{% for i in range(100) %}{{ self.c() }}{% endfor %}{% endblock %}"
               "{% block c %}{% for i in range(900) %}{% endfor %}{% endblock %}", STEPS),
    "recursive loops": ("{% for i in range(9) recursive %}{% if loop.depth < 40 %}{{ loop(range(9)) }}{% endif %}{% endfor %}", STEPS),
    "filters": ("{% for i in range(2000) %}{{ range(9000) | map('string') | list | length }}{% endfor %}", STEPS),
    "a filter by its name": ("{{ ['x' * 9000] | map('replace', 'x', 'y' * 9000) | list | length }}", LENGTH),
    "a text twice": ("{% set ns = namespace(x='ab') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", LENGTH),
    "a sum": ("{% set ns = namespace(x='ab') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", LENGTH),
    "a block": ("{% set x = 'ab' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 25, LENGTH),
    "an argument": ("{% macro f(x, n) %}{% if n %}{{ f(x ~ x, n - 1) }}{% endif %}{% endmacro %}{{ f('ab', 40) }}", LENGTH),
    "a list in a list": ("{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}", STEPS),
    "a loop's list": ("{% for a in ['x' ~ 'x' * 999999] %}{% for b in [a ~ a] %}{{ b }}{% endfor %}{% endfor %}", STEPS),
    "many pieces": ("{% for i in range(9000) %}{{ messages[0].content * 9 }}{% endfor %}", LENGTH),
    "product": ("{{ 'ab' * 1000000 }}", LENGTH),
    "width": ("{{ 'ab'.center(100000000) }}", LENGTH),
    "replace": ("{% set x = 'ab' * 9000 %}{{ x.replace('a', x) }}", LENGTH),
    "join": ("{{ ('ab' * 9000).join(['x'] * 9000) }}", LENGTH),
    "format": ("{{ '{:999999999}'.format(1) }}", "widths that are too large"),
    "format of a width": ("{{ '{:{}}'.format(1, 999999999) }}", "widths that are too large"),
    "percent": ("{{ '%999999999d' % 1 }}", "widths that are too large"),
    "percent of a width": ("{{ '%*d' % (999999999, 1) }}", LENGTH),
    "indent": ("{{ messages | tojson(indent=10000000) }}", LENGTH),
    "power": ("{{ 2 ** (99999 + messages | length) }}", DIGITS),
    "square": ("{% set ns = namespace(x=9) %}{% for i in range(40) %}{% set ns.x = ns.x * ns.x %}{% endfor %}", DIGITS),
    "number": ("{{ ('f' * 9999 * (messages | length)) | int(base=16) // 3 }}", DIGITS),
    "random words": ("{{ lipsum(n=2) }}", "undefined"),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS_AWAY)
def test_a_template_that_does_too_much_is_that_items_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every chat, whatever the template's trial was given: lengths are counted before memory is taken."""
    monkeypatch.setattr(template_meter, "NODES", 100_000)
    template, why = RUNS_AWAY[name]
    with pytest.raises(ItemError, match=f"chat template refused: .*{why}") as error:
        render_prompt(tiny_tokenizer("x" + template), ASK)
    assert "\n" not in str(error.value)


def test_long_chats_may_take_as_many_steps_and_characters_as_they_are_long() -> None:
    loops = "{% for c in messages[0].content %}{{ c * 2 }}{% endfor %}"
    text = "ab" * 300_000
    assert len(render_prompt(tiny_tokenizer(loops), [{"role": "user", "content": text}])) == 4 * 300_000


def test_a_refusal_does_not_depend_on_what_else_is_rendered() -> None:
    """Threads render chats of one model at once."""
    tokenizer = tiny_tokenizer("{% for i in range(messages[0].content | int) %}{% for j in range(900) %}{% endfor %}{% endfor %}ok")

    def asked(times: int) -> str:
        try:
            return render_prompt(tokenizer, [{"role": "user", "content": str(times)}])
        except ItemError:
            return "refused"

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(asked, [1, 2000, 1, 2000] * 4)) == ["ok", "refused"] * 8


def test_others_who_render_the_template_in_this_process_are_not_bound() -> None:
    tokenizer = tiny_tokenizer("{{ 'a' * 1500000 }}" + json.dumps("?"))
    with pytest.raises(ItemError, match="writes more than 1"):
        render_prompt(tokenizer, ASK)
    assert len(tokenizer.apply_chat_template(ASK, tokenize=False)) == 1_500_003
