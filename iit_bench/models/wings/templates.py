"""Chat templates (Jinja) that place images: for tokenizers whose own template does not, and for the released code's scripts."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import TemplateError

from iit_bench.models.rendering import apply_template
from iit_bench.models.wings.released.scripts import SYSTEM_PROMPT, Script

_FLATTEN = """\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set text = namespace(all='') -%}
{%- if message.content is string -%}{%- set text.all = message.content -%}
{%- else -%}{%- for part in message.content -%}{%- set text.all = text.all + (MARK if part.type == 'image' else part.text) -%}{%- endfor -%}
{%- endif -%}
{%- set flat.messages = flat.messages + [dict(message, content=text.all)] -%}
{%- endfor -%}
{%- set messages = flat.messages -%}
"""
_SCRIPT = """\
{%- if not messages or messages[0].role != 'system' -%}
{%- set messages = [{'role': 'system', 'content': SYSTEM}] + messages -%}
{%- endif -%}
{%- for message in messages -%}
{{- HEADERS[message.role] + message.content + END + ('' if loop.last and not add_generation_prompt else '\\n') -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- HEADERS['assistant'] -}}{%- endif -%}
"""


def placing_images(tokenizer: Any, image_token: str) -> str | None:
    """The tokenizer's template, which writes `image_token` for an image; None without a template.

    Most templates of text-only models take only a string as a message's content: these are preceded by one that joins a content's parts.
    """
    template = tokenizer.chat_template
    if template is None or _places(tokenizer, image_token):
        return template
    return _FLATTEN.replace("MARK", json.dumps(image_token)) + str(template)


def _places(tokenizer: Any, image_token: str) -> bool:
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "A"}]}]
    try:
        return apply_template(tokenizer, chat).count(image_token) == 1
    except TemplateError:
        return False


def of_script(script: Script, image_token: str) -> str:
    """What `released.scripts.write_turns` writes, as a template."""
    headers = {role: script.before(role) for role in ("system", "user", "assistant")}
    values = {"SYSTEM": SYSTEM_PROMPT, "HEADERS": headers, "END": script.end}
    template = _FLATTEN.replace("MARK", json.dumps(image_token)) + _SCRIPT
    for name, value in values.items():
        template = template.replace(name, json.dumps(value))
    return template
