"""NAME=VALUE lists of the command line, as `--chat-template-kwargs` takes them."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from iit_bench.errors import UserError, one_line


def parse_named_values(text: str, flag: str) -> dict[str, Any]:
    """The values by name: from a JSON object, or from NAME=VALUE,NAME=VALUE where a value is JSON (True and None count) or else a text.

    Raises:
        UserError: of neither form, or a name twice; `flag` is named in the error.
    """
    text = text.strip()
    if text.startswith("{"):
        try:
            return dict(json.loads(text, parse_constant=_no_number, object_pairs_hook=_named_once))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{flag} {text!r} is no JSON object ({one_line(error)}); mend it, or write NAME=VALUE,NAME=VALUE") from error
    pairs = [part.partition("=") for part in text.split(",")] if text else []
    if any(not name.strip() or not equals for name, equals, _ in pairs):
        raise UserError(f"{flag} {text!r} is not of the form NAME=VALUE,NAME=VALUE; use that form, or a JSON object: '{{\"NAME\": VALUE}}'")
    try:
        return _named_once([(name.strip(), _value(value.strip())) for name, _, value in pairs])
    except ValueError as error:
        raise UserError(f"{flag} {text!r} cannot be used ({one_line(error)}); give each name once") from error


def _value(text: str) -> Any:
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} given twice")
    return dict(pairs)
