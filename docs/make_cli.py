"""Writes docs/reference/cli.md from the commands themselves; a test compares the two.

python docs/make_cli.py
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import typer  # noqa: E402

from iit_bench.cli.app import group as commands_of_app  # noqa: E402 - run as a script, the package may not be installed

PAGE = HERE / "reference" / "cli.md"
HEAD = """# Command line

Made by `docs/make_cli.py` from the commands; do not edit.

Long options; results go to files, progress and logs to standard error, `--json` prints for machines. Errors are one sentence that names
the thing, what is wrong and what to do; `--debug` shows the traceback. [Exit codes](../how-to/resume-and-repeat.md#exit-codes): **0** the
work is whole, **1** items or runs failed, **2** refused, **70** a bug, **130** interrupted.
"""
# `get_help_record` puts the default behind the help text: "… [default: iit]", "[required]".
_EXTRAS = re.compile(r"\s*\[((?:default|required|env var|x)[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\s*$")
_PLAIN = re.compile(r"(`[^`]*`)")


def page() -> str:
    """The content of docs/reference/cli.md."""
    group: Any = commands_of_app()
    commands = {name: group.commands[name] for name in group.list_commands(typer.Context(group))}
    parts = [HEAD, *_contents(commands)]
    for name, command in commands.items():
        parts += _section(f"iit-bench {name}", command)
    return "\n".join(parts).rstrip() + "\n"


def _contents(commands: dict[str, Any]) -> Iterator[str]:
    yield "| command | |\n|---|---|"
    for name, command in commands.items():
        yield f"| [`iit-bench {name}`](#iit-bench-{name}) | {_cell(command.short_help or _paragraphs(command)[0])} |"
    yield ""


def _section(title: str, command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=title)
    yield f"## {title}\n"
    examples = []
    for paragraph in _paragraphs(command):
        if paragraph.startswith("Example: "):
            examples.append(paragraph.removeprefix("Example: "))
        else:
            yield f"{paragraph}\n"
    if examples:
        yield "```\n" + "\n".join(examples) + "\n```\n"
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name != "argument" and not getattr(one, "hidden", False)]
    if arguments:
        yield "| argument | meaning |\n|---|---|"
        yield from (f"| `{one.name.upper()}` | {_argument(one, context)} |" for one in arguments)
        yield ""
    panels = _panels(options)
    for panel, members in panels:
        if len(panels) > 1:
            yield f"### {title}: {panel or 'output'}\n"
        yield "| option | takes | default | meaning |\n|---|---|---|---|"
        yield from (_row(one, context) for one in members)
        yield ""


def _argument(argument: Any, context: Any) -> str:
    """Help text, and the values where only some are allowed."""
    record = argument.get_help_record(context) or ("", "")
    choices = record[0].rpartition("<")[2].rstrip(">") if "|" in record[0] else ""
    values = ": " + ", ".join(f"`{one}`" for one in choices.split("|")) if choices else ""
    return _cell((argument.help or "").rstrip("." if values else "")) + values


def _panels(options: list[Any]) -> list[tuple[str, list[Any]]]:
    """Options by the heading that the command gives them, in its order; those without a heading come last."""
    panels: dict[str, list[Any]] = {}
    for one in options:
        panels.setdefault(getattr(one, "rich_help_panel", None) or "", []).append(one)
    return sorted(panels.items(), key=lambda item: item[0] == "")


def _row(option: Any, context: Any) -> str:
    record = option.get_help_record(context) or (", ".join(option.opts), option.help or "")
    spelling, text = (" ".join(part.split()) for part in record)
    names = ", ".join(_code(name) for name in (*option.opts, *option.secondary_opts))
    default = ""
    while extra := _EXTRAS.search(text):
        text = text[: extra.start()]
        for part in extra[1].split("; "):
            if part == "required":
                default = "required"
            elif part.startswith("default: "):
                default = _code(part.removeprefix("default: "))
    takes = _code(spelling.rpartition(option.opts[-1])[2].strip(" ,/")) if not _is_switch(option) else ""
    return f"| {names} | {takes} | {default} | {_cell(text)} |"


def _is_switch(option: Any) -> bool:
    return bool(getattr(option, "is_flag", False))


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n") if paragraph.strip()]


def _code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|") if text else ""


def _cell(text: str) -> str:
    """Text in a table cell: nothing outside of backticks is markup."""
    pieces = _PLAIN.split(" ".join(text.split()).replace("|", r"\|"))
    return "".join(piece if piece.startswith("`") else re.sub(r"([*_<])", r"\\\1", piece) for piece in pieces)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
