"""The commands by name, and the page that lists them. It is printed before typer is imported, so this file imports next to nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

HELP_FLAGS = ("-h", "--help")
MAX_WIDTH = 120  # of help pages

# What Ctrl-C leaves of a command, and what to do with the command, which follows: each begins after "interrupted".
RESUMES = "; finished work is kept, resume with"
NOT_ANEW = "; --fresh has begun no run anew yet; start again with"
PARTLY_ANEW = "; finished work is kept, and --fresh has not reached {}: remove that, and resume with"
WHOLE = "; what it writes is whole or as it was before; start again with"
PARTS = "; some files of the report may be written; to finish it, repeat"
MERGED = "; no answer is lost, and some may be moved already; to finish, repeat"
SUBMITTED = "; tasks may be submitted already (with Slurm, `squeue` lists them): end those before you start again with"
NOTHING = ", nothing was written; start again with"

# Name → (file of this package that adds it, what it does, what Ctrl-C leaves of it), in the order of the page.
COMMANDS = {
    "demo": ("demo", "Build, score and report the lab: offline, in minutes.", RESUMES),
    "build": ("build", "Build a benchmark folder from text and visual sources.", WHOLE),
    "export": ("export", "Write a benchmark for other tools, or runs in formats that others read.", WHOLE),
    "fetch": ("fetch", "Download the data of tasks into a folder; after an interruption, the same command resumes.", RESUMES),
    "eval": ("eval", "Score a model; after an interruption, the same command resumes.", RESUMES),
    "arms": ("arms", "Ask the targets of a run again with one thing changed: without images, choices reordered, …", RESUMES),
    "attention": ("attention", "Observe what a model's last prompt token attends to, layer by layer.", WHOLE),
    "plan": ("plan", "Print how many groups a run needs to find a difference, before anything is run.", NOTHING),
    "watch": ("watch", "Evaluate each checkpoint of a training as it lands.", RESUMES),
    "submit": ("submit", "Submit an evaluation as a Slurm array; preempted tasks go on by themselves.", SUBMITTED),
    "merge": ("merge", "Put together what several processes have answered of a run.", MERGED),
    "report": ("report", "Write the report of several runs: a folder of pages.", PARTS),
    "compare": ("report", "Print paired differences between two runs.", NOTHING),
    "show": ("show", "Print what a model was asked and what it answered: wrong, lost, unparsed, one item …", NOTHING),
    "diff": ("show", "Print the items whose outcome differs between two runs.", NOTHING),
    "explain": ("explain", "Split the gap between two results of one model by cause.", NOTHING),
    "train": ("train", "Train the lab's models, or your own, from a recipe.", RESUMES),
    "lab": ("lab", "Run the experiment: methods, learning rates and seeds, cell by cell.", RESUMES),
    "verify": ("verify", "Check that folders are whole: nothing missing, nothing changed.", NOTHING),
    "list": ("list", "List the names that other commands accept.", NOTHING),
}
OPTIONS = {
    "--version": "Print the version and stop.",
    "--debug": "Show the traceback of an error.",
    "-h, --help": "Show this message and exit.",
}
_ABOUT = "Evaluate what multimodal LLMs forget: build the Interleaved Image-Text benchmark, score models on it, look at the leaderboard."
_NEXT = "Start with `iit-bench demo`. Options and examples of a command: `iit-bench eval --help`."


def page() -> str:
    """The help of `iit-bench` itself, as wide as the terminal."""
    width = max(min(_columns(), MAX_WIDTH) - 2, 50)
    about, following = (_wrapped(text, width, indent=2) for text in (_ABOUT, _NEXT))
    options = _listed(OPTIONS.items(), width)
    commands = _listed(((name, text) for name, (_, text, _) in COMMANDS.items()), width)
    return f"Usage: iit-bench [OPTIONS] COMMAND [ARGS]...\n\n{about}\n\nOptions:\n{options}\n\nCommands:\n{commands}\n\n{following}"


def _columns() -> int:
    """As `shutil.get_terminal_size`, whose import takes longer than the whole page."""
    words = os.environ.get("COLUMNS", "")
    if words.isdecimal() and int(words) > 0:
        return int(words)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80


def _listed(rows: Iterable[tuple[str, str]], width: int) -> str:
    """Terms, and their explanations in a second column."""
    terms = list(rows)
    column = max(len(term) for term, _ in terms) + 4
    return "\n".join(f"  {term}".ljust(column) + _wrapped(text, width, column).lstrip() for term, text in terms)


def _wrapped(text: str, width: int, indent: int) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and indent + len(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(" " * indent + line for line in lines)


def print_page(text: str) -> int:
    """Print words of our own, and return an exit code: 1 where their reader ends first (`| head`), as typer does for the commands."""
    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:  # a terminal that has not all characters
            encoding = sys.stdout.encoding
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # for the flush at the end of the process
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            return 1
        print(f"iit-bench: cannot print this ({error.strerror}); print it to another place", file=sys.stderr)
        return 2
    return 0
