"""What a run fixes in a chat template before anything is rendered: the user's arguments, and the day that the template is told.

transformers gives templates a function `strftime_now`, which reads the clock at every call: the same chat would be another prompt tomorrow.
Both are written in front of the template in its own language, so that every rendering of the tokenizer or processor has them, in any
thread, and nothing of transformers is changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from keyword import iskeyword
from typing import Any

from iit_bench.errors import UserError
from iit_bench.models.contract import ModelOptions

CLOCK = "strftime_now"  # what transformers calls it
OURS = frozenset({"messages", "add_generation_prompt", "continue_final_message", "tokenize", "chat_template", CLOCK})
_DIRECTIVES = "aAbBcdfGHIjmMpSuUVwWxXyYzZ"
# `strftime_now(format)` of one day: every directive is looked up, what is no directive stays.
_PINNED_CLOCK = """\
{{%- macro strftime_now(format) -%}}{{%- set at = namespace(directive='') -%}}{{%- for letter in format -%}}
{{%- if at.directive and letter == '-' -%}}{{%- set at.directive = '%-' -%}}
{{%- elif at.directive -%}}{{{{- {day}.get(at.directive[1:] + letter, at.directive + letter) -}}}}{{%- set at.directive = '' -%}}
{{%- elif letter == '%' -%}}{{%- set at.directive = '%' -%}}
{{%- else -%}}{{{{- letter -}}}}{{%- endif -%}}{{%- endfor -%}}{{{{- at.directive -}}}}{{%- endmacro %}}
"""


def fix_template(renderer: Any, options: ModelOptions, name: str) -> dict[str, Any]:
    """Put the arguments and the date of `options` in front of the chat templates of a tokenizer or processor, which is changed.

    The template's hash is that of its own text: take it before.

    Args:
        renderer: of transformers.
        options: their `chat_template_kwargs` and `date`.
        name: the model's, for the error.

    Returns:
        What to add to `ModelInfo.settings`: the arguments, where there are any, and the date, where the template asks for it.

    Raises:
        UserError: the template takes no argument of that name.
    """
    holders: list[Any] = [one for one in (renderer, getattr(renderer, "tokenizer", None)) if getattr(one, "chat_template", None)]
    texts = [text for one in holders for text in _texts(one.chat_template)]
    given = options.chat_template_kwargs
    _check_names(given, texts, name)
    asks_clock = any(CLOCK in text for text in texts)
    day = options.date or today()
    for one in holders:
        template = one.chat_template
        if isinstance(template, Mapping):
            one.chat_template = {key: _fixed(text, given, day) for key, text in template.items()}
        else:
            one.chat_template = _fixed(str(template), given, day)
    return ({"chat_template_kwargs": dict(given)} if given else {}) | ({"date": day} if asks_clock else {})


def today() -> str:
    """The day in UTC, ISO 8601."""
    return datetime.now(UTC).date().isoformat()


def _texts(template: Any) -> list[str]:
    return [str(text) for text in template.values()] if isinstance(template, Mapping) else [str(template)]


def _check_names(given: Mapping[str, Any], texts: list[str], name: str) -> None:
    for argument in given:
        if argument in OURS:
            raise UserError(f"--chat-template-kwargs cannot set {argument!r}, which each request sets itself; leave it out")
        is_name = argument.isidentifier() and not iskeyword(argument) and argument not in ("true", "false", "none")
        if not is_name or not any(re.search(rf"\b{re.escape(argument)}\b", text) for text in texts):
            what = "has no chat template" if not texts else f"has a chat template that does not mention {argument!r}"
            raise UserError(f"model {name!r} {what}, so --chat-template-kwargs {argument}=… would change nothing; leave it out")


def _fixed(template: str, given: Mapping[str, Any], day: str) -> str:
    """The template with its arguments in front. A tag that ends a line takes the line's end with it, as transformers sets jinja2 up."""
    lines = [f"{{%- set {argument} = {_literal(value)} %}}\n" for argument, value in given.items()]
    if CLOCK in template:
        lines.append(_PINNED_CLOCK.format(day=_literal(directives(day))))
    return "".join(lines) + template


def directives(day: str) -> dict[str, str]:
    """What strftime's directives are on a day, at noon and without a time zone, as transformers' clock; with "-", without leading zeros."""
    noon = datetime.combine(date.fromisoformat(day), time(12))
    values = {letter: noon.strftime("%" + letter) for letter in _DIRECTIVES}
    short = {"-" + letter: value.lstrip("0") or "0" for letter, value in values.items() if value.isdigit() and letter != "f"}
    composed = {"D": noon.strftime("%m/%d/%y"), "F": noon.strftime("%Y-%m-%d"), "T": "12:00:00", "R": "12:00"}
    return values | short | composed | {"e": f"{noon.day:2d}", "-e": str(noon.day), "%": "%", "n": "\n", "t": "\t"}


def _literal(value: Any) -> str:
    """A JSON value as jinja2 writes it."""
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(key))}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
