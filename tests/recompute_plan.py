"""Sample sizes by other means than evaluators/: `python tests/recompute_plan.py PLAN.json [RUN_A RUN_B | ICC]` prints what is off.

PLAN.json is what `iit-bench plan --json` printed, RUN_A and RUN_B its pilot, ICC the correlation that it was given instead. Discordance,
design effect and degrees of freedom come from the two tables with pandas. A size is found by looking at every number of pairs in turn, with
scipy's distributions. Imports nothing of the project.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path[:0] = [str(Path(__file__).parents[1])]

from tests.recompute_figures import Check, check_paired, pairs, predictions  # noqa: E402 - a script has its own folder on the path
from tests.recompute_statistics import critical_counts, family, paired, t_power  # noqa: E402 - a script has its own folder on the path


def pilot(run_a: Path, run_b: Path, over: str) -> dict[str, Any]:
    """What the pilot's tables show of the tier, or of the pool of tiers (`T*`), that both runs have."""
    styles = [json.loads((run / "run.json").read_text())["style"] for run in (run_a, run_b)]
    sides = [predictions(run, style) for run, style in zip((run_a, run_b), styles, strict=True)]
    wanted = [tier for tier in set(sides[0]["tier"]) & set(sides[1]["tier"]) if tier == over or ("*" in over and tier.endswith(over[:-1]))]
    a, b = pairs(*(rows[rows["is_target"] & rows["tier"].isin(wanted)] for rows in sides), ["dialogue", "position"])
    (result,) = family([paired(a, b)])
    assert result is not None
    n = result["difference"]["n"]
    tiers = json.loads((run_a / "run.json").read_text())["benchmark"]["tiers"]
    return {
        "result": result,
        "discordance": float((a["right"].to_numpy() != b["right"].to_numpy()).mean()),
        "design_effect": n / result["effective"],
        "items_per_group": n / a["group"].nunique(),
        "test": result["test"],
        "degrees_per_item": None if result["df"] is None else (result["df"] + 1) / n,
        "pilot_groups": a["group"].nunique(),
        "benchmark_groups": sum(tiers[ending] for ending in {tier[-1] for tier in wanted}),
    }


def size(difference: float, basis: Mapping[str, Any], alpha: float, power: float) -> dict[str, Any]:
    """The line of the plan for a difference: one pair more than the largest number of pairs that is too small."""
    discordant = max(difference, basis["discordance"])
    z = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    most = int(2 * z**2 * discordant / difference**2 + 60 / discordant)  # twice what a normal test needs, and more where few pairs differ
    critical = critical_counts(most, alpha)
    finds = np.where(critical >= 0, stats.binom.cdf(critical, np.arange(most + 1), (1 - difference / discordant) / 2), 0.0)

    def enough(n: int) -> bool:
        if (stats.binom.pmf(np.arange(n + 1), n, discordant) * finds[: n + 1]).sum() < power:
            return False
        if basis["degrees_per_item"] is None:
            return True
        degrees = basis["degrees_per_item"] * basis["design_effect"] * n - 1
        return t_power(difference, math.sqrt(max(discordant - difference**2, 0.0) / n), degrees, alpha) >= power

    effective = next(n + 1 for n in range(most, -1, -1) if not enough(n))
    assert effective < most, "the search began too low"
    items = math.ceil(effective * basis["design_effect"])
    found = {"difference": difference, "discordance": discordant, "effective": effective, "items": items}
    return found | {"groups": math.ceil(items / basis["items_per_group"])}


def check_plan(check: Check, plan: Mapping[str, Any], runs: tuple[Path, Path] | None = None, icc: float = 0.0) -> None:
    """Compare a plan, as `--json` prints it, with the pilot's tables or with the numbers that it was given."""
    basis = plan["basis"]
    if runs is None:
        check.same("design effect by Kish", basis["design_effect"], 1 + icc * (basis["items_per_group"] - 1))
    else:
        over = basis["pilot"]["over"]
        own = pilot(*runs, over)
        check_paired(check, f"pilot {over}", basis["pilot"], own.pop("result"))
        for name, value in own.items():
            check.same(name, basis[name], value)
    for one in plan["sizes"]:
        for name, value in size(one["difference"], basis, plan["alpha"] / plan["tests"], plan["power"]).items():
            check.same(f"{one['difference']:g} {name}", one[name], value)


def main(arguments: list[str]) -> int:
    """Check a plan and print what is off."""
    plan, *more = arguments
    check = Check()
    runs = (Path(more[0]), Path(more[1])) if len(more) == 2 else None
    check_plan(check, json.loads(Path(plan).read_text()), runs, float(more[0]) if len(more) == 1 else 0.0)
    print(f"{check.compared} comparisons, {len(check.off)} off", *check.off, sep="\n  ")
    return int(bool(check.off))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
