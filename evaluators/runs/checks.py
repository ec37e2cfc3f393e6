"""What can be refused of options by looking at the options only: before a benchmark is read, a model is loaded or anything is written.

What needs the benchmark too is in `evaluators.iit.before_loading`. Imports nothing heavy, because the command line needs this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from evaluators.arms.names import ALL, of_options, parse_arms
from iit_bench.errors import UserError


def check_lowest(options: Any) -> None:
    """Refuse numbers below the lowest that a field's metadata name: `least` (itself taken) or `above` (itself refused).

    Raises:
        UserError: names the option and what to give.
    """
    for one in fields(options):
        value, least, above = getattr(options, one.name), one.metadata.get("least"), one.metadata.get("above")
        if value is None:
            continue
        flag = "--" + one.name.replace("_", "-")
        if least is not None and not value >= least:  # nan is not
            raise UserError(f"{flag} {value} is too low; give {least} or more")
        if above is not None and not value > above:
            raise UserError(f"{flag} {value} is too low; give more than {above}")


def check_choices(options: Any) -> None:
    """Refuse words that a field with a fixed choice of words does not know.

    Raises:
        UserError: names the option and its words.
    """
    for name, words in _choices(type(options)).items():
        value = getattr(options, name)
        if value is not None and value not in words:
            raise UserError(f"--{name.replace('_', '-')} {value!r} is not known; give {' or '.join(words)}")


def _choices(record: type) -> Mapping[str, tuple[str, ...]]:
    found = {name: tuple(_words(hint)) for name, hint in get_type_hints(record).items()}
    return {name: words for name, words in found.items() if words}


def _words(hint: Any) -> Sequence[str]:
    if get_origin(hint) is Literal:
        return [word for word in get_args(hint) if isinstance(word, str)]
    return [] if get_origin(hint) is tuple else [word for part in get_args(hint) for word in _words(part)]


def check_until(until: str | None, *, base: Path | None, margin: float, usual: float, tiers: Sequence[str] | None) -> None:
    """Refuse a run until decided without what it decides on.

    Args:
        until: `--until`.
        base: run folder of the base.
        margin: the loss that is ruled out.
        usual: the default of `margin`.
        tiers: the tiers that are named.

    Raises:
        UserError: no base, a margin that is no fraction or is given in vain, or tiers with visual targets.
    """
    if until is None:
        if margin != usual:
            raise UserError("--margin is what --until decided rules out; give both, or leave it out")
        return
    if base is None:
        raise UserError("--until decided decides whether a loss against a base is there; give the base's finished run with --base")
    if not 0 < margin < 1:
        raise UserError(f"--margin {margin:g} is no fraction between 0 and 1; write 2 points as 0.02")
    if visual := [tier for tier in tiers or () if tier.endswith("V")]:
        raise UserError(f"--until decided asks text targets only; leave {', '.join(visual)} out of --tiers")


def check_alone(until: str | None, processes: int) -> None:
    """Refuse a run until decided by several processes: which clusters come first would depend on which of them is faster.

    Raises:
        UserError: so it is.
    """
    if until is not None and processes > 1:
        raise UserError(f"--until decided looks at answers in one order, so it takes one process, and {processes} were started")


def check_arms(arms: Sequence[str] | None, *, blind: bool, style: str | None) -> None:
    """Refuse arms that do not exist, or that are named and cannot be asked with these options, whatever model and benchmark.

    Raises:
        UserError: names the arm, and why.
    """
    if arms is None:
        return
    wanted = parse_arms(arms)
    if ALL not in arms:
        of_options(wanted, blind=blind, style=style)
