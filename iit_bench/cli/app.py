"""The application: options that commands share, exit codes, errors as one sentence."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from iit_bench.cli.commands import COMMANDS, HELP_FLAGS, MAX_WIDTH, NOT_ANEW, NOTHING, OPTIONS, PARTLY_ANEW, RESUMES, page, print_page
from iit_bench.errors import MachineError, OthersAtWork, UserError, described
from iit_bench.ranks import ELSEWHERE, LAUNCH
from iit_bench.storage import anew
from iit_bench.terminal import spell_out_libraries, write

INTERRUPTED = 130
# What a path can be by itself, wherever it is first used: longer than the system allows, links in a circle, forbidden.
OF_PATHS = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM})
SHOWN = 100  # characters of such a path


class Commands(typer.core.TyperGroup):
    """The commands of `commands.py`, each made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None for an unknown one."""
        if cmd_name not in COMMANDS:
            return None
        file, description, _ = COMMANDS[cmd_name]
        if cmd_name not in self.commands:
            import_module(f"iit_bench.cli.{file}")
            info = next(one for one in app.registered_commands if (one.name or one.callback.__name__) == cmd_name)  # type: ignore[union-attr]
            info.cls = info.cls if info.cls and issubclass(info.cls, Command) else Command
            self.commands[cmd_name] = typer.main.get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)
        self.commands[cmd_name].short_help = description
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer's, which suggests for a misspelt name one of the commands that are made."""
        if args and args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """The page that is printed without typer, too."""
        return page()


app = typer.Typer(
    name="iit-bench",
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich would double the time of --help
    context_settings={"help_option_names": list(HELP_FLAGS), "max_content_width": MAX_WIDTH},
)


def group() -> Commands:
    """The application with every command made, for who describes them all."""
    made = typer.main.get_group(app)
    assert isinstance(made, Commands)
    for name in COMMANDS:
        made.get_command(None, name)
    made.commands = {name: made.commands[name] for name in COMMANDS}
    return made


class Command(typer.core.TyperCommand):
    """A command that refuses an option with one value which is given twice; typer itself would take the last, without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer's.

        Raises:
            UserError: names the options that are given more than once.
        """
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        once = [one for one in given if isinstance(one, typer.core.TyperOption) and not one.multiple and _takes_a_value(one)]
        if twice := [one for one in dict.fromkeys(once) if once.count(one) > 1]:
            flags = ", ".join("/".join((one.opts[0], *one.secondary_opts)) for one in twice)
            verb = "takes one value and is" if len(twice) == 1 else "take one value each and are"
            raise UserError(f"{flags} {verb} given more than once; keep one of them")
        return super().parse_args(ctx, args)


def _takes_a_value(one: typer.core.TyperOption) -> bool:
    """Whether two of it may say different things: a value, or a switch with two sides."""
    return not one.is_flag or bool(one.secondary_opts)


class PanelCommand(Command):
    """A command whose help shows its options under the headings of their panels; typer itself does so only with rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one list of options per panel, in the order of their first option."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl(records)


Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def run(words: list[str]) -> int:
    """Run the command of the words, and return its exit code as `iit_bench.cli.main` does."""
    spell_out_libraries()
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    anew.forget()
    if not words:
        write(page())
        return 2
    try:
        if len(words) == 2 and words[0] in COMMANDS and words[1] in HELP_FLAGS:
            return print_page(_help_of(words[0]))
        code = app(words, prog_name="iit-bench", standalone_mode=False)
    except UserError as error:
        if debug:
            raise
        return _complain(anew.resumable(str(error)), 2)
    except OthersAtWork as error:
        if LAUNCH in os.environ:  # the process that started this one waits for all
            return ELSEWHERE
        return _complain(f"this process has done its part; {error}, the last of which writes the results", 0)
    except MachineError as error:  # the same command resumes
        if debug:
            raise
        return _complain(anew.resumable(str(error)), 1)
    except typer.TyperException as error:  # wrong option, missing argument
        return _complain(f"{_in_words(error.format_message())} (see `iit-bench {_command(words)}--help`)", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:  # the last resort: a bug is reported in one sentence, too
        if debug:
            raise
        from iit_bench.storage.atomic import full_or_read_only

        if disk := full_or_read_only(error):
            return _complain(str(disk), 2)
        if isinstance(error, OSError) and error.errno in OF_PATHS and error.filename is not None:
            return _complain(f"cannot use {_shortened(str(error.filename))!r}: {error.strerror}; give another path", 2)
        return _complain(f"internal error, {described(error)}; please report it with the output of the same command and --debug", 70)
    if code == INTERRUPTED:  # typer itself turns Ctrl-C into this code, and prints nothing
        return _complain(_how_to_resume(words), INTERRUPTED)
    return code if isinstance(code, int) else 0


def _shortened(path: str) -> str:
    return path if len(path) <= SHOWN else f"{path[: SHOWN // 2]}…{path[-SHOWN // 2 :]}"


def _in_words(message: str) -> str:
    """Typer's message on one line; of a word that an option does not know, as `evaluators.runs.checks` puts it."""
    line = " ".join(message.split())
    unknown = re.fullmatch(r"Invalid value for '(?P<flag>--[\w-]+)': Value error, (?P<value>'.*') is not one of (?P<words>.*?)\.?", line)
    return f"{unknown['flag']} {unknown['value']} is not known; give {unknown['words'].replace(', ', ' or ')}" if unknown else line


def _command(words: list[str]) -> str:
    """The command in the words, followed by a space, for a hint at its help; "" if there is none."""
    return words[0] + " " if words and words[0] in COMMANDS else ""


def _help_of(name: str) -> str:
    """A command's help, without parsing its options, for which typer would import pydantic."""
    made = typer.main.get_group(app)
    context = typer.Context(made, info_name="iit-bench", **made.context_settings)
    command = made.get_command(context, name)
    assert command is not None
    return command.get_help(typer.Context(command, info_name=name, parent=context, **command.context_settings))


def _how_to_resume(words: list[str]) -> str:
    """The message after Ctrl-C: what the command leaves, and the command that resumes it; with its own --fresh only before that began."""
    left = COMMANDS[words[0]][2] if words and words[0] in COMMANDS else NOTHING
    if left == RESUMES and "--fresh" in words:
        begun, earlier = anew.standing()
        if earlier and not begun:
            left = NOT_ANEW
        else:
            left = PARTLY_ANEW.format(_listed(earlier)) if earlier else left
            words = [word for word in words if word != "--fresh"]
    return f"interrupted{left}: {shlex.join(['iit-bench', *words])}"


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(repr(str(folder)) for folder in folders)


def _complain(text: str, code: int) -> int:
    write(f"iit-bench: {text}", file=sys.stderr)
    return code


def names(text: str | None) -> tuple[str, ...] | None:
    """Names separated by commas, without the spaces around them; None for None."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text is not None else None


def given_options(context: typer.Context) -> list[str]:
    """Names of the options that are on the command line."""
    return [name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"]  # type: ignore[union-attr]


def refuse_idle(context: typer.Context, options: Sequence[str], why: str) -> None:
    """Refuse options on the command line that change nothing here; that they are at their defaults makes no difference.

    Args:
        context: of the command.
        options: names of its parameters.
        why: when they change nothing, as in "without --dry-run".

    Raises:
        UserError: names those that are given.
    """
    flags = {one.name: "/".join((one.opts[0], *one.secondary_opts)) for one in context.command.params}
    if idle := [flags[name] for name in given_options(context) if name in options]:
        have, them = ("has", "it") if len(idle) == 1 else ("have", "them")
        raise UserError(f"{', '.join(idle)} {have} no effect {why}; leave {them} out")


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help=OPTIONS["--version"])] = False,
    debug: Annotated[bool, typer.Option("--debug", help=OPTIONS["--debug"])] = False,
) -> None:
    if version:
        from iit_bench.version import __version__

        write(f"iit-bench {__version__}")
        raise typer.Exit
