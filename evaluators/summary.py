"""What `iit-bench eval` prints when it is done: the figures of one run, for a terminal or for a machine."""

from __future__ import annotations

import dataclasses

from iit_bench.tables import canonical_json
from iit_bench.types import Figure, Results


def summary_text(name: str, results: Results) -> str:
    """Scores with 95% intervals and n, one line each."""
    lines = [f"{name}: {results.n_dialogues} dialogues, " + ", ".join(f"{n} {outcome}" for outcome, n in results.outcomes.items() if n)]
    rows = [("IIT score", results.iit["acc"]), ("T score", results.t_score["acc"]), ("V score", results.v_score["acc"])]
    rows += [(f"tier {tier.tier}", tier.acc) for tier in results.tiers]
    if results.forgetting:
        rows += [(f"forgotten against {results.forgetting.base}", _negative(results.forgetting.pooled.difference))]
        rows += [("retention", results.forgetting.retention)]
    width = max(len(label) for label, _ in rows)
    lines += [f"  {label:{width}}  {_figure(figure)}" for label, figure in rows]
    if not results.complete:
        lines.append("  not complete: some items failed for reasons of the machine (errors.jsonl); repeat the command to go on")
    return "\n".join(lines)


def summary_json(results: Results) -> str:
    return canonical_json(dataclasses.asdict(results))


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return f"not available ({figure.note})"
    interval = f" [{figure.low:.1%}, {figure.high:.1%}]" if figure.low is not None and figure.high is not None else ""
    return f"{figure.value:6.1%}{interval} n={figure.n}"


def _negative(figure: Figure) -> Figure:
    """The loss behind a difference `model - base`."""
    if figure.value is None or figure.low is None or figure.high is None:
        return figure
    return dataclasses.replace(figure, value=-figure.value, low=-figure.high, high=-figure.low)
