"""Refuses to write among the files of a folder of another kind: a demo into a run, a training into a model of somebody else's, …"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from iit_bench.errors import UserError

# Kind of a folder → what only such a folder has: names and patterns of files and folders in it.
KINDS: dict[str, tuple[str, ...]] = {
    "run": ("run.json",),
    "benchmark or an export": ("manifest.json",),
    "data root": ("fetched.json",),
    "report": ("report-files.txt",),
    "training": ("training.json", "recipe.yaml", "checkpoint"),
    "model": ("config.json", "*.safetensors", "*.bin", "*.gguf", "tokenizer*.json"),
    "demo": ("runs/base-llm/run.json",),
    "lab": ("cells/*.json", "work/locks"),
}


def refuse_other_kinds(out: Path, nothing: str, but: Collection[str] = (), fix: str = "choose another --out") -> None:
    """Refuse an output folder that another command has made, or that is a model; nothing is written.

    For commands that add files to a folder. Those that replace it as a whole have `whole_folders.check_target`.

    Args:
        out: the folder; it need not exist.
        nothing: subject and verb of what is refused: "no demo goes".
        but: names in KINDS of folders that the command may write to.
        fix: what to do, the end of the error's sentence.

    Raises:
        UserError: it is a file, or holds something of another kind, which the sentence names.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"cannot write {str(out)!r}: it is a file, not a folder; {fix}")
    for kind, marks in KINDS.items():
        if kind not in but and (found := next((path for mark in marks for path in sorted(out.glob(mark))), None)):
            name = found.relative_to(out).as_posix()
            raise UserError(f"{str(out)!r} holds {name} of a {kind}, and {nothing} among its files; {fix}")
