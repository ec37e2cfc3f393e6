"""From a record of options to the options of a command: names, types, defaults and help texts come from its fields."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from iit_bench.cli.app import names
from iit_bench.errors import UserError

Command = TypeVar("Command", bound=Callable[..., None])


def options_of(record: type, panels: Mapping[type, str], without: Sequence[str] = ()) -> Callable[[Command], Command]:
    """A decorator that gives a command one option per field of `record`; the command gets them as `**given`, see `record_values`.

    Args:
        record: a dataclass whose fields have the metadata of `evaluators.runs.options.option`.
        panels: parts of the record, and the heading of each in the help.
        without: fields that the command has no option for.
    """
    hints = get_type_hints(record)
    titles = {field.name: title for part, title in panels.items() for field in dataclasses.fields(part)}
    shown = [field for field in dataclasses.fields(record) if field.name not in without]
    parameters = [_parameter(field, hints[field.name], titles.get(field.name)) for field in shown]

    def decorate(command: Command) -> Command:
        own = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.kind != inspect.Parameter.VAR_KEYWORD]
        own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        every = [*parameters, *own]
        command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in every}
        return command

    return decorate


def record_values(record: type, given: Mapping[str, Any], without: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of `record` from the words of the command line: lists at their commas, and the word that means None as None.

    `without` as in `options_of`.

    Raises:
        UserError: a word that is no number where one is needed.
    """
    hints = get_type_hints(record)
    there = [field for field in dataclasses.fields(record) if field.name not in without]
    return {field.name: _value(field, hints[field.name], given[field.name]) for field in there}


def _parameter(field: dataclasses.Field[Any], hint: Any, title: str | None) -> inspect.Parameter:
    """The parameter from which typer makes the option of a field."""
    default: Any = field.default
    if none := field.metadata.get("none"):
        hint, default = str, none
    elif _is_tuple(hint):
        hint = str | None
    elif field.metadata.get("needed") and default is dataclasses.MISSING:  # which suites need it is only known when all options are read
        hint, default = hint | None, None
    flags = field.metadata.get("flags") or "--" + field.name.replace("_", "-")
    shown = isinstance(default, int | float | str) and default != ""
    option = typer.Option(flags, help=field.metadata["help"], rich_help_panel=title, show_default=shown)
    kind = inspect.Parameter.KEYWORD_ONLY
    if default is dataclasses.MISSING:
        return inspect.Parameter(field.name, kind, annotation=Annotated[hint, option])
    return inspect.Parameter(field.name, kind, annotation=Annotated[hint, option], default=default)


def _value(field: dataclasses.Field[Any], hint: Any, value: Any) -> Any:
    none = field.metadata.get("none")
    if none:
        return None if value == none else _number(field.name, value, none, field.metadata.get("least") or 0)
    return names(value) if _is_tuple(hint) else value


def _is_tuple(hint: Any) -> bool:
    return get_origin(hint) is tuple or any(get_origin(part) is tuple for part in get_args(hint))


def _number(name: str, text: str, none: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise UserError(f"--{name.replace('_', '-')} {text!r} is neither {none!r} nor a number from {least} up")
    return int(text)
