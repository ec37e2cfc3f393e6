"""Counts what a chat template does while transformers renders it, and ends a render that does too much.

A template of strangers may loop for hours for some chat that its trial had not. No clock is asked: nodes of the template are counted, and
sizes of what it makes, so that a chat that is refused is refused everywhere. `enter` compiles a template once more, in the environment in
which transformers compiled it, with the counts of `template_counts.py` in it; what it writes stays the same.

- Each round of a loop and each call of a macro or block counts the nodes of its body; rounds are counted when a loop begins.
- A value that is kept (by `set`, as an argument, in a list) is measured where its expression may make it longer. Long values make nodes
  dearer.
- Operators, filters and methods whose result may be much longer than what they are given are refused before they make it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from functools import cache, partial, wraps
from itertools import islice
from threading import Lock
from typing import Any

from jinja2 import TemplateError, pass_context
from jinja2.runtime import Undefined

from iit_bench.models.template_counts import CALLED, ENTERED, MADE, OPERATORS, PLAIN_FILTERS, STEP, CountingCode

NODES, NODES_PER_CHARACTER = 1_000_000, 100  # that a render may visit: these, and so many for each character of the chat
WRITTEN, WRITTEN_PER_CHARACTER = 1_000_000, 16  # the same of the characters of a text
ELEMENT = 64  # characters that an element of a list counts
BITS = 2**14  # of a number
PIECES = 64  # of a text, that are made before its length is looked at
WIDER = 64  # times as long as a text may be what an operation would make at the very most
LAZY_FILTERS = frozenset({"select", "reject", "selectattr", "rejectattr", "list", "map", "items", "reverse"})
_WIDTH = re.compile(r"\d{6}|\{[^{}]+\{")  # of a format: a long number, or a width that is given as an argument
_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)
_lock = Lock()


class Meter:
    """What one render may still do.

    Args:
        turns: the chat that is rendered.
    """

    __slots__ = ("dearness", "left", "longest", "turns")

    def __init__(self, turns: Any) -> None:
        self.turns: Any = turns
        self.left, self.longest, self.dearness = NODES, WRITTEN, 1

    def _measure_chat(self) -> None:
        """Take the chat's own length into account, which few chats need."""
        size, self.turns = (0 if self.turns is None else len(str(self.turns))), None
        self.left += NODES_PER_CHARACTER * size
        self.longest += WRITTEN_PER_CHARACTER * size

    def step(self, count: int) -> None:
        """Count nodes that are visited. Raises TemplateError if they are too many."""
        self.left -= count * self.dearness
        if self.left < 0:
            self._measure_chat()
            if self.left < 0:
                raise TemplateError("it takes too many steps for a chat of this length")

    def fits(self, size: int, times: int = 1) -> None:
        """Raise TemplateError if a text of `size` characters is longer than `times` the longest that may be made."""
        if size > times * self.longest:
            self._measure_chat()
            if size > times * self.longest:
                raise TemplateError(f"it writes more than {self.longest} characters")

    def made(self, value: Any) -> None:
        """Count a value that is kept."""
        size = self.weight(value)
        self.fits(size)
        self.step(size >> 8)
        self.dearness = max(self.dearness, 1 + (size >> 14))

    def weight(self, value: Any, width: bool = False) -> int:
        """About how many characters a value holds; of parts that occur several times, each. A number that may be a width is its size."""
        if isinstance(value, (str, bytes)):
            return len(value)
        if isinstance(value, int):
            if value.bit_length() > BITS:
                raise TemplateError("it makes numbers of too many digits")
            return abs(value) if width else 8
        if isinstance(value, (list, tuple, dict)):
            size = ELEMENT * len(value)
            for part in value:
                size += self.weight(part) + (self.weight(value[part]) if isinstance(value, dict) else 0)
                self.fits(size, WIDER)
            return size
        return 8

    def read(self, value: Any) -> None:
        """Count a value that an operation goes through."""
        if isinstance(value, (str, bytes)):
            self.step(len(value) >> 8)
        elif isinstance(value, (list, tuple, dict, range)):
            self.step(len(value))

    def before(self, name: str, read: Any, given: Iterable[Any], width: bool) -> None:
        """Refuse an operation whose result may be far too long: at most what it reads, once for each character that it is given."""
        if name in {"format", "format_map", "%"} and _WIDTH.search(str(read)):
            raise TemplateError("it formats with widths that are too large")
        size = self.weight(read) * (1 + sum(self.weight(value, width) for value in given))
        self.fits(size, WIDER)


# ---------------------------------------------------------------- while it is rendered


@pass_context
def _step(context: Any, count: Any) -> str:
    meter = _meter.get()
    if meter is not None and count > 0:
        meter.step(count)
    return ""


@pass_context
def _entered(context: Any, values: Any, count: int) -> Any:
    """What a loop goes through; all rounds are counted at once."""
    meter = _meter.get()
    if meter is not None and count > 0:
        if hasattr(values, "__next__"):
            values = list(values)
        try:
            rounds = len(values)
        except TypeError:  # a value that is no list ends the render with jinja2's own words
            return values
        meter.step(count * rounds)
    return values


@pass_context
def _made(context: Any, value: Any) -> Any:
    meter = _meter.get()
    if meter is not None:
        meter.made(value)
    return value


@pass_context
def _called(context: Any, function: Any) -> Any:
    """A function, method or macro that counts what it is given and what it returns."""
    meter = _meter.get()
    return function if meter is None or isinstance(function, Undefined) else partial(_call, meter, context, function)


def _call(meter: Meter, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    inner = getattr(function, "__wrapped__", function)  # the sandbox wraps `format`
    owner = getattr(inner, "__self__", None)
    given = (*args, *kwargs.values())
    if isinstance(owner, (str, bytes, int, float)):
        meter.read(owner)
        meter.before(inner.__name__, owner, given, width=True)
    else:
        for value in given:  # a macro keeps them
            meter.made(value)
    result = context.environment.call(context, function, *args, **kwargs)
    meter.made(result)
    return result


def _counted_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that counts what it reads and returns."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        meter = _meter.get()
        if meter is None:
            return function(*args, **kwargs)
        meter.read(args[first])
        if name not in LAZY_FILTERS:
            meter.before(name, args[first], (*args[first + 1 :], *kwargs.values()), width=True)
        result = function(*args, **kwargs)
        meter.made(result)
        return result

    return counted


def _write(root: Callable[[Any], Iterable[str]], context: Any) -> Iterable[str]:
    """What a template's own function writes, no further than it may go."""
    meter, pieces = _meter.get(), root(context)
    if meter is None:
        return pieces
    kept: list[str] = []
    size, source = 0, iter(pieces)
    while some := list(islice(source, PIECES)):
        size += sum(map(len, some))
        if size > meter.longest:
            meter.fits(size)
        kept += some
    return kept


def _counted_operator(name: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator that is refused where it would make a number or text that is too long."""

    def counted(left: Any, right: Any) -> Any:
        meter = _meter.get()
        if meter is None:
            return function(left, right)
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * abs(right) if name == "**" else left.bit_length() + right.bit_length()
            if bits > BITS:
                raise TemplateError("it makes numbers of too many digits")
            return function(left, right)
        if name == "%":
            meter.before("%", left, right if isinstance(right, tuple) else (right,), width=True)
        elif name == "*":
            text, times = (right, left) if isinstance(left, int) else (left, right)
            meter.fits(meter.weight(text) * (abs(times) if isinstance(times, int) else 1))
        result = function(left, right)
        meter.made(result)
        return result

    return counted


def enter(text: str | None, turns: Any) -> Token[Meter | None]:
    """Bound what `apply_chat_template` does with a template from here on, in this thread: jinja2.TemplateError if it is too much.

    Args:
        text: the template; None if there is none.
        turns: the chat.

    Returns:
        What `leave` takes.
    """
    if text is not None:
        _count(text)
    return _meter.set(Meter(turns))


leave = _meter.reset


def _count(text: str) -> None:
    """Make transformers count the steps of a template from now on, where a meter is in use. Its compiled form is kept by transformers."""
    template = _compiler()(text)
    if type(template.root_render_func) is partial:
        return
    with _lock:
        if type(template.root_render_func) is partial:
            return
        # Look-ups in the environment are fast as long as it has no attributes but its own: those for compiling are an overlay's.
        environment: Any = template.environment
        _count_filters(environment)
        compiling = environment.overlay()
        compiling.code_generator_class, compiling.intercepted_binops = CountingCode, OPERATORS
        counting = template.from_code(environment, compiling.compile(text), environment.make_globals(None))
        template.blocks, template.root_render_func = counting.blocks, partial(_write, counting.root_render_func)


@cache
def _compiler() -> Callable[[str], Any]:
    """What transformers compiles templates with, and remembers them by."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    return _compile_jinja_template  # type: ignore[no-any-return]


def _count_filters(environment: Any) -> None:
    for name in ("lipsum", "urlize"):  # random words, and expressions that are matched for very long
        environment.globals.pop(name, None)
        environment.filters.pop(name, None)
    for name, function in environment.filters.items():
        if name not in PLAIN_FILTERS:
            environment.filters[name] = _counted_filter(name, function)
    environment.filters |= {ENTERED: _entered, MADE: _made, CALLED: _called, STEP: _step}
    for name in OPERATORS:
        environment.binop_table[name] = _counted_operator(name, environment.binop_table[name])
