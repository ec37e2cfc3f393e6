"""VQA source by source (digits, flags, easy-VQA …), beside what the question's text alone gives (the benchmark's question prior)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from evaluators.lab.answers import VQA, Grid, Key
from evaluators.lab.effects import Effect, accuracy
from evaluators.statistics import Floats
from iit_bench.storage.benchmark import load_manifest

PRIOR = "question_prior"  # a rule of the manifest's baselines


@dataclass(frozen=True, kw_only=True)
class SourceArm:
    """One method at one rate, on tier V."""

    key: Key
    seeds: int
    accuracy: Mapping[str, Effect]  # source -> accuracy


@dataclass(frozen=True, kw_only=True)
class SourceFigures:
    """Tier V by source."""

    targets: Mapping[str, int]  # source -> n
    priors: Mapping[str, float]  # source -> accuracy of the question prior; empty where the benchmark is not there
    arms: tuple[SourceArm, ...]  # main methods and controls, in the order of grid.methods, then by rate


def by_source(grid: Grid, priors: Mapping[str, float]) -> SourceFigures:
    """Every main method and control at each of its rates."""
    seen = [VQA.takes(tier) for tier in grid.tier.tolist()]
    names = sorted({source for source, takes in zip(grid.source.tolist(), seen, strict=True) if takes})
    parts = {name: _only(grid, name) for name in names}
    return SourceFigures(
        targets={name: sum(VQA.takes(tier) for tier in part.tier.tolist()) for name, part in parts.items()},
        priors={name: priors[name] for name in names if name in priors},
        arms=tuple(
            SourceArm(
                key=(one.cell.method, rate),
                seeds=len(grid.arms[one.cell.method, rate].seeds),
                accuracy={name: accuracy(part, VQA, (one.cell.method, rate)) for name, part in parts.items()},
            )
            for one in grid.methods
            for rate in grid.rates(one.cell.method)
            if one.cell.role != "ablation"
        ),
    )


def priors(folder: Path, grid: Grid) -> Mapping[str, float]:
    """Accuracy of the question prior on each source, by the manifest of the benchmark that the cells were asked.

    Args:
        folder: with the benchmark's manifest.json.
        grid: the cells.

    Returns:
        source -> fraction right; empty if there is no manifest, or it is of another benchmark than the cells'.

    Raises:
        UserError: the manifest cannot be read.
    """
    if not (folder / "manifest.json").is_file():
        return {}
    manifest = load_manifest(folder)
    asked = {one.inputs.get("benchmark") for one in grid.results if one.state == "done"}
    if asked != {manifest["rows_sha256"]}:
        return {}
    rules = manifest["baselines"]
    return {name: rules[name][PRIOR] for name in manifest["sources"] if rules.get(name, {}).get(PRIOR) is not None}


def _only(grid: Grid, source: str) -> Grid:
    """The grid of the rows of one source."""
    rows = grid.source == source

    def cut(values: Floats) -> Floats:
        return values[..., rows]

    arms = {key: replace(arm, right=cut(arm.right)) for key, arm in grid.arms.items()}
    return replace(grid, tier=grid.tier[rows], source=grid.source[rows], cluster=grid.cluster[rows], base=cut(grid.base), arms=arms)
