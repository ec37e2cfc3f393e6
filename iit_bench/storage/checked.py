"""JSON objects whose fields were checked: what each field must be, and one sentence, with the file and the field, where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from iit_bench.errors import UserError
from iit_bench.storage.tables import WrongField, decode


class Checked(dict[str, Any]):
    """A JSON object whose reader gets one sentence, with the file and the field, where a field is not there.

    Attributes:
        where: the file, and the place in it.
        fix: what to do, the sentence's end.
    """

    def __init__(self, content: Mapping[str, Any], where: str, fix: str) -> None:
        super().__init__(content)
        self.where, self.fix = where, fix

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self.where} lacks the field {name!r}; {self.fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Checked, (dict(self), self.where, self.fix)


@dataclass(frozen=True)
class Such:
    """A field's type with a condition on its value.

    Attributes:
        kind: the type.
        fits: whether a value of the type is allowed.
        words: what the value must be, for the error.
    """

    kind: Any
    fits: Callable[[Any], bool]
    words: str


@dataclass(frozen=True)
class Each:
    """An object whose fields have names of their own and are all objects of one kind."""

    of: Fields


@dataclass(frozen=True)
class Fields:
    """Fields of a JSON object by name: `required` ones are always there, `more` may be missing; of each its type.

    Attributes:
        required, more: name -> `Fields`, `Each`, `Such`, or a type that `tables.decode` knows.
        or_null: null may be there instead of the object.
        plain: its readers get a plain dict, for objects that are copied into records of which `dataclasses.asdict` is taken.
    """

    required: Mapping[str, Any]
    more: Mapping[str, Any]
    or_null: bool = False
    plain: bool = False

    @property
    def all(self) -> Mapping[str, Any]:
        """Both."""
        return {**self.required, **self.more}

    def check(self, value: Any, where: str, fix: str) -> Checked:
        """Return an object, unless it lacks a field that is required or one has another type.

        Args:
            value: the JSON value.
            where: the file, for the error.
            fix: what to do, the sentence's end.

        Raises:
            UserError: naming the field.
        """
        try:
            _check_fields(self, value, "")
        except WrongField as error:
            raise UserError(f"{where}: {error}; {fix}") from error
        return Checked(_with_parts(self, value, where, fix), where, fix)


def _check(kind: Any, value: Any, place: str) -> None:
    if isinstance(kind, Fields):
        if value is not None or not kind.or_null:
            _check_fields(kind, value, place)
    elif isinstance(kind, Each):
        for name, one in _object(value, place).items():
            _check(kind.of, one, f"{place}.{name}")
    elif isinstance(kind, Such):
        if not kind.fits(decode(kind.kind, value, place)):
            raise WrongField(place, value, kind.words)
    else:
        decode(kind, value, place)


def _check_fields(fields: Fields, value: Any, inside: str) -> None:
    _object(value, inside)
    for name, kind in fields.all.items():
        place = f"{inside}.{name}" if inside else name
        if name in value:
            _check(kind, value[name], place)
        elif name in fields.required:
            raise WrongField(place)


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise WrongField(place, value, "an object")
    return value


def _wrapped(kind: Any, value: Any, where: str, fix: str) -> Any:
    if value is None or not isinstance(kind, Fields | Each):
        return value
    if isinstance(kind, Each):
        return Checked({name: _wrapped(kind.of, one, f"{where} {name!r},", fix) for name, one in value.items()}, where, fix)
    return value if kind.plain else Checked(_with_parts(kind, value, where, fix), where, fix)


def _with_parts(fields: Fields, value: Mapping[str, Any], where: str, fix: str) -> dict[str, Any]:
    parts = {name: _wrapped(kind, value[name], f"{where}, {name!r},", fix) for name, kind in fields.all.items() if name in value}
    return {**value, **parts}
