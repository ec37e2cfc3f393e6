"""Writes the table of the demo's numbers into README.md and docs/demo.md, between the marks `BEGIN` and `END`.

    make demo && python docs/make_readme.py demo

Every number comes from results.json of the demo's runs, or from the manifest of its benchmark.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from iit_bench.numerals import percent  # noqa: E402
from iit_bench.storage.benchmark import load_manifest  # noqa: E402 - run as a script, the package may not be installed
from iit_bench.storage.runs import IitRun, load_run  # noqa: E402
from iit_bench.types import Figure  # noqa: E402

PAGES = (HERE.parent / "README.md", HERE / "demo.md")
BEGIN, END = "<!-- table of make demo, written by docs/make_readme.py -->", "<!-- end of the table -->"
RUNS = {
    "base-llm": "base LLM",
    "wings": "Wings",
    "llava": "LLaVA-style, a rate of its own for the LLM",
    "llava-one-rate": "LLaVA-style, one learning rate for all",
    "wings-blind": "Wings, blind",
}
SUBJECTS = ("shape", "colour", "yes/no")  # of tier V
MINUS = "\N{MINUS SIGN}"


def table(demo: Path) -> str:
    """The table in Markdown: a line per run of RUNS, and the question prior.

    Args:
        demo: the folder of `iit-bench demo`, run without a limit.

    Raises:
        UserError: it is not there, or not finished.
    """
    runs = {name: load_run(demo / "runs" / name, "iit") for name in RUNS}
    return "\n".join(_lines(runs, load_manifest(demo / "bench")["baselines"])) + "\n"


def _lines(runs: Mapping[str, IitRun], baselines: Mapping[str, Any]) -> Iterator[str]:
    parts, results = _subjects(runs["wings"]), runs["wings"].results
    sizes = {"text-only score": results.text_only_score["acc"].n, "T score": results.t_score["acc"].n, "V score": results.v_score["acc"].n}
    lost = next(run.results.forgetting for run in runs.values() if run.results.forgetting)
    yield (
        f"| model | {' | '.join(f'{name} (n = {one:,})' for name, one in sizes.items())} "
        f"| {' / '.join(one.replace('/', '-') for one in SUBJECTS)} (tier V, n = {' / '.join(str(one.n) for one in parts)}) "
        f"| forgotten against the base LLM (n = {lost.pooled.difference.n}) | retention |"
    )
    yield "|---" * 7 + "|"
    for name, words in RUNS.items():
        results = runs[name].results
        shown = [_figure(one["acc"]) for one in (results.text_only_score, results.t_score, results.v_score)]
        by_subject = " / ".join(_percent(one.value) for one in _subjects(runs[name]))
        yield f"| {' | '.join([words, *shown, by_subject or '–', *_forgotten(runs[name])])} |"
    prior = {part: baselines[part]["question_prior"] for part in ("T", "V", *(f"easyvqa/{subject}" for subject in SUBJECTS))}
    by_subject = " / ".join(_percent(prior[f"easyvqa/{subject}"]) for subject in SUBJECTS)
    text, visual = _percent(prior["T"]), _percent(prior["V"])
    yield f"| question prior (fitted on easy-VQA's train split) | {text} | {text} | {visual} | {by_subject} | | |"


def _subjects(run: IitRun) -> list[Figure]:
    """Accuracy on tier V by subject, in the order of SUBJECTS; nothing where the tier was not run."""
    found = {part.subject: part.acc for part in run.results.breakdown if part.tier == "V"}
    return [found[subject] for subject in SUBJECTS if subject in found]


def _forgotten(run: IitRun) -> list[str]:
    """What was lost in percentage points, bold where the test finds it at 5%, and the retention."""
    forgetting = run.results.forgetting
    if forgetting is None:
        return ["–", "–"]
    lost, p = _figure(forgetting.pooled.difference), forgetting.pooled.p_holm
    return [f"**{lost}**" if p is not None and p < 0.05 else lost, _figure(forgetting.retention)]


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "–"
    return f"{_percent(figure.value)} [{_percent(figure.low)}, {_percent(figure.high)}]"


def _percent(value: float | None) -> str:
    """In percent with one decimal; 100 without."""
    return "100" if percent(value) == "100.0" else percent(value).replace("-", MINUS)


def rewrite(text: str, between: str) -> str:
    """The text with what is between its marks replaced.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no marks {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n{between}\n{end}{after}"


if __name__ == "__main__":
    written = table(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
    for page in PAGES:
        page.write_text(rewrite(page.read_text(encoding="utf-8"), written), encoding="utf-8")
