"""The application: options that commands share, exit codes, errors as one sentence."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from iit_bench.errors import MachineError, UserError, described

INTERRUPTED = 130

app = typer.Typer(
    name="iit-bench",
    help="Evaluate what multimodal LLMs forget: build the Interleaved Image-Text benchmark, score models on it, look at the leaderboard.",
    epilog="Start with `iit-bench demo`. Options and examples of a command: `iit-bench eval --help`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich would double the time of --help
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


class PanelCommand(typer.core.TyperCommand):
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


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 complete, 1 machine errors, 2 bad input or no item answered, 70 a bug, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = app(words, prog_name="iit-bench", standalone_mode=False)
    except UserError as error:
        if debug:
            raise
        return _complain(str(error), 2)
    except MachineError as error:  # the same command resumes
        if debug:
            raise
        return _complain(str(error), 1)
    except typer.TyperException as error:  # wrong option, missing argument
        return _complain(f"{' '.join(error.format_message().split())} (see `iit-bench {_command(words)}--help`)", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:  # the last resort: a bug is reported in one sentence, too
        if debug:
            raise
        return _complain(f"internal error, {described(error)}; please report it with the output of the same command and --debug", 70)
    if code == INTERRUPTED:  # typer itself turns Ctrl-C into this code, and prints nothing
        return _complain(_how_to_resume(words), INTERRUPTED)
    return code if isinstance(code, int) else 0


def _command(words: list[str]) -> str:
    """The command in the words, followed by a space, for a hint at its help; "" if there is none."""
    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    return words[0] + " " if words and words[0] in known else ""


def _how_to_resume(words: list[str]) -> str:
    """The message after Ctrl-C: evaluations, trainings and downloads resume, other commands wrote nothing."""
    if words and words[0] in ("eval", "demo", "train", "fetch", "watch"):
        return (
            f"interrupted; finished work is kept, resume with: {shlex.join(['iit-bench', *(word for word in words if word != '--fresh')])}"
        )
    return f"interrupted, nothing was written; start again with: {shlex.join(['iit-bench', *words])}"


def _complain(text: str, code: int) -> int:
    print(f"iit-bench: {text}", file=sys.stderr)
    return code


def names(text: str | None) -> tuple[str, ...] | None:
    """Names separated by commas, without the spaces around them; None for None."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text is not None else None


def given_options(context: typer.Context) -> list[str]:
    """Names of the options that are on the command line."""
    return [name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"]  # type: ignore[union-attr]


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        from iit_bench.version import __version__

        print(f"iit-bench {__version__}")
        raise typer.Exit
