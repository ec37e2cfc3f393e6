"""The tiers of a run's figures and predictions against those that its run.json names: files of two runs in one folder contradict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.types import Results, SuiteResults


def check_results(folder: Path, run: Mapping[str, Any], results: Results | SuiteResults) -> None:
    """Refuse figures of a tier that was not run. A tier that the model could not run has a note and no figures.

    Args:
        folder: the run's.
        run: its run.json; one without tiers is of another tool, or of a suite that has none.
        results: its results.json.

    Raises:
        UserError: results.json has some.
    """
    if isinstance(results, Results):
        _check(folder, run, (one.tier for one in results.tiers if one.acc.value is not None or any(one.outcomes.values())), "results.json")


def checked(folder: Path, run: Mapping[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
    """Columns of predictions as pyarrow arrays, whose tiers, if they are among them, were run.

    Raises:
        UserError: predictions.parquet has a tier that was not run.
    """
    if "tier" in columns:
        _check(folder, run, columns["tier"].unique().to_pylist(), "predictions.parquet")
    return columns


def check_predictions(folder: Path, run: Mapping[str, Any], tiers: Iterable[str]) -> None:
    """As `checked`, of predictions as records.

    Raises:
        UserError: as `checked`.
    """
    _check(folder, run, tiers, "predictions.parquet")


def _check(folder: Path, run: Mapping[str, Any], tiers: Iterable[str], file: str) -> None:
    named = run.get("tiers")
    if named is not None and (other := sorted(set(tiers) - set(named))):
        raise UserError(
            f"{file!r} of run {str(folder)!r} has tier {other[0]}, and its run.json names {', '.join(named) or 'none'}: they are of two "
            f"runs; put the right files back, or repeat its command with --fresh: {run.get('command', '')}"
        )
