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
SOURCES = {"digits": "digits", "flags": "flags", "flag-facts": "facts through a flag", "easyvqa": "easy-VQA"}  # of tier V
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
    parts, results = _by_source(runs["wings"]), runs["wings"].results
    sources = [source for source in SOURCES if source in baselines]  # the benchmark may be another preset's
    sizes = {"text-only score": results.text_only_score["acc"].n, "T score": results.t_score["acc"].n, "V score": results.v_score["acc"].n}
    lost = next(run.results.forgetting for run in runs.values() if run.results.forgetting)
    yield (
        f"| model | {' | '.join(f'{name} (n = {one:,})' for name, one in sizes.items())} "
        f"| {' / '.join(SOURCES[source] for source in sources)} (tier V, n = {' / '.join(str(n) for _, n in parts)}) "
        f"| forgotten against the base LLM (n = {lost.pooled.difference.n}) | retention |"
    )
    yield "|---" * 7 + "|"
    for name, words in RUNS.items():
        results = runs[name].results
        shown = [_figure(one["acc"]) for one in (results.text_only_score, results.t_score, results.v_score)]
        by_source = " / ".join(_percent(value) for value, _ in _by_source(runs[name]))
        yield f"| {' | '.join([words, *shown, by_source or '–', *_forgotten(runs[name])])} |"
    text, visual, *by_source = (_percent(baselines[part]["question_prior"]) for part in ("T", "V", *sources))
    yield f"| question prior (fitted on the train splits) | {text} | {text} | {visual} | {' / '.join(by_source)} | | |"


def _by_source(run: IitRun) -> list[tuple[float, int]]:
    """(accuracy, n) on tier V by source, in the order of SOURCES; nothing where the tier was not run."""
    found: dict[str, list[Figure]] = {source: [] for source in SOURCES}
    for part in run.results.breakdown:
        if part.tier == "V" and part.acc.value is not None:
            found[part.source].append(part.acc)
    sizes = {source: sum(one.n for one in parts) for source, parts in found.items() if parts}
    return [(sum((one.value or 0) * one.n for one in found[source]) / n, n) for source, n in sizes.items()]


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
