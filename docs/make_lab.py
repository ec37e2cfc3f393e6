"""Writes docs/lab.md and its figures from the cells beside it, each folder an OUT/cells of `iit-bench lab`; a test compares the two.

    python docs/make_lab.py [CELLS [PAGE]]

The cells of the nano models are in lab/cells, those of SmolLM2 in lab/smol/cells, each folder beside the manifest of its benchmark. Every
number, verdict and sentence of the map is computed from them (`evaluators/lab`); the tables are in `lab_tables.py`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import lab_tables as tables  # noqa: E402
import pandas as pd  # noqa: E402 - run as a script, the package may not be installed

from evaluators.lab import silenced  # noqa: E402
from evaluators.lab.answers import load  # noqa: E402
from evaluators.lab.claims import RULE  # noqa: E402
from evaluators.lab.effects import Effect  # noqa: E402
from evaluators.lab.findings import Findings, findings  # noqa: E402
from evaluators.lab.regions import MAP, MAP_RULE, regions  # noqa: E402
from evaluators.lab.sources import priors  # noqa: E402
from iit_bench.lab.cells import BASE, Cell, rate_word  # noqa: E402
from iit_bench.lab.grid import load_grid, planned  # noqa: E402
from iit_bench.numerals import NOTHING, counted, fixed, in_percent, percent, points  # noqa: E402
from iit_bench.types import tier_order  # noqa: E402
from reports import figure_files  # noqa: E402
from reports.lab import plots  # noqa: E402

CELLS, SMOL, FIGURES, PAGE = HERE / "lab" / "cells", HERE / "lab" / "smol" / "cells", HERE / "lab" / "figures", HERE / "lab.md"
SILENCED = HERE / "lab" / "silenced"
HEAD = """# The experiment: what is lost and gained

Made by `docs/make_lab.py` from the experiment's cells; do not edit. The paper (arXiv 2406.03496) claims that learners keep the text
abilities which tuning on images loses. `iit-bench lab` tests that: from one base LLM and one vision tower, on the same data, it trains
models by several methods, at several learning rates of the LLM, under several seeds.
"""
NOT_RUN = """
The experiment has no cells here yet, so nothing is reported. It is run by `iit-bench lab`.
"""
READ = """
Differences are in percentage points, over the same targets, with 95% intervals. Seeds and items are crossed random effects, items clustered
by what they share; the variance between seeds is estimated from all methods at one rate together. *Text alone* is the tiers without images.
*Text after an image* is the tiers that end in a text question and have an image before it, against the base LLM's answer to the same
question without the image, because the base takes none. *VQA* is tier V. The claim *at equal VQA* is tested at the VQA that the weaker of
Wings and full tuning has at its best, where the stronger one's rates on both sides of it are mixed; the tables at equal VQA are at the VQA
of full tuning, which a method may not reach. Detectable: the smallest effect that the test finds with 80% power.
"""
LIMITS = """
## Limits

- The base LLM is a nano model, trained for this project, and it is one: what another base would lose is not among what varies here.
- A rate of LoRA is that of its adapter, so "the same rate" compares LoRA with full tuning only by name. The table at equal VQA is the fair
  one.
- The interval at equal VQA takes what a seed adds to text and to VQA as independent. By simulation it covers .92 to .95 with
  250 targets, .84 to .91 with 100.
- Methods are not compared at equal VQA along the path of one training. Cells keep dev scores on its way, of few questions and as counts, so
  the answers of two methods cannot be compared question by question; and a model in the middle of its schedule has not had the low rates at
  its end, so it is none that a method would give. The table along the training shows these scores without intervals.
- The rate 5e-4 took the place of 1e-4 after the first cells of `quick`, of one seed, had been seen: text was lost between 2e-4 and 1e-3
  only. Claims at the same rate are means over the rates, most of which lose little text by any method.
- Models trained in mode `released` are scored in mode `strict`, so what they lose has two causes, the label leak
  (docs/spec/wings.md#a5-causality) and this change of mode.
- The text-only controls learn answers that cannot be known without the picture, so what they lose is due to narrow answers or to answers
  that are noise; full tuning's advantage over them does not say which.
- A learner was silenced in nano models only. Which output costs text after an image at a larger scale is not known; on SmolLM2 the models
  with the visual learner only lost less of it than the whole ones, by a difference that is not found.
- Cells of one method are no random sample of models: intervals of correlations are too narrow.
- SmolLM2 has one rate of the LLM and 90 steps. Its VQA is little above that of the control, which sees no images, so what tuning on images
  gains and costs at that size is seen in its beginning only.
"""
LEARNERS = "What the learners do to text after an image"
SILENT = """
Trained Wings models of {seeds} seeds answer again while one of their learners is silent (`iit_bench/models/wings/silenced.py`): its weight
is 0 at text behind an image, at image tokens, or at both; nothing else is changed. Silent minus whole, of the same weights, question by
question; an interval is over seeds and questions, as if both were drawn anew. Bold: p < 0.05 by Holm over the table.
"""
ROUTED = """
The router's weight ρ of the visual learner (the textual learner has the rest) at the token behind which the reply begins, mean over layers
and over {n} dialogues with an image a model. A router that told the two kinds of question apart would have a difference of tenths.
"""


def page(cells: Path = CELLS, smol: Path = SMOL) -> str:
    """The page in Markdown, of folders of cells; it says so where there are none.

    Raises:
        UserError: as `evaluators.lab.answers.load`.
    """
    if not any(cells.glob("*.json")):
        return HEAD + NOT_RUN
    planned_cells = [one.cell for one in planned(load_grid("full"))]
    found = _found(cells, planned_cells)
    shown = figures(found)
    parts = [_setting(found, planned_cells), READ, _claims(found), _map(found)]
    parts += [tables.arms(found), *_pictures(shown, "frontier-", "rates-"), tables.sources(found)]
    parts += [tables.tiers(found), *_pictures(shown, "tiers-"), tables.equal(found)]
    parts += [tables.pairs("Against full tuning, at the same rate", found, found.against_full)]
    parts += [tables.pairs("Beside the text-only controls", found, found.against_control)]
    parts += [tables.pairs("With the LLM frozen, against the projector only", found, found.frozen)]
    parts += [tables.attention(found), *_pictures(shown, "shift"), tables.layers(found), *_pictures(shown, "layers")]
    parts += [tables.pairs("Ablations", found, found.ablations), learners(), tables.path(found), tables.cost(found)]
    return HEAD + "".join(parts) + smol_section(smol) + LIMITS


def _found(cells: Path, planned_cells: Sequence[Cell]) -> Findings:
    """All figures; the question prior is that of the manifest beside the folder of cells."""
    grid = load(cells)
    return findings(grid, [one.name for one in planned_cells], priors(cells.parent, grid))


def figures(found: Findings) -> Mapping[str, plots.Captioned]:
    """Every figure of the page with its caption, by the name of its file: of the tiers the one at the highest rate."""
    by_tier = plots.by_tier(found)[-1:]
    seen = [plots.shift(found)] if len(found.shift.points) > 1 else []
    made = [*plots.frontier(found), *plots.by_rate(found), *by_tier, *seen, *plots.by_layer(found)]
    return {f"{plot.key}.svg": (plot, caption) for plot, caption in made}


def _pictures(shown: Mapping[str, plots.Captioned], *beginnings: str) -> list[str]:
    names = [name for beginning in beginnings for name in shown if name.startswith(beginning)]
    return [f"\n![{shown[name][1]}](lab/figures/{name})\n" for name in names]


def _map(found: Findings) -> str:
    lines = "".join(f"- **{line.about}.** {line.text}\n" for line in regions(found))
    return f"\n## {MAP}\n\n{MAP_RULE}\n\n{lines}"


def _setting(found: Findings, planned_cells: Sequence[Cell]) -> str:
    grid = found.grid
    done = [one for one in grid.results if one.state == "done"]
    seeds = sorted({one.cell.seed for one in done})
    sizes = {tier: int((grid.tier == tier).sum()) for tier in grid.tiers}
    methods = ", ".join(
        f"{one.cell.label} ({', '.join(rate_word(rate) for rate in grid.rates(one.cell.method)) or 'none done'})" for one in grid.methods
    )
    usual = Counter(one.steps for one in done).most_common(1)[0][0]
    first = next(one for one in done if one.steps == usual)
    others = {f"{one.cell.label} {one.steps:,}" for one in done if one.steps not in (usual, 0)}  # 0: the base LLM
    but = f" ({', '.join(sorted(others))})" if others else ""
    lines = [
        "\n## Setting\n",
        f"- {counted(len(done), 'cell')}, the base LLM's among them; {counted(len(seeds), 'seed')}.",
        f"- The base LLM answers {_of_base(found)}.",
        f"- Methods, with the rates of the LLM that are done: {methods}.",
        f"- {counted(usual, 'step')} of the last stage{but}; {first.parameters.get('total', 0):,} parameters in all.",
        f"- Targets per tier: {', '.join(f'{tier} {n}' for tier, n in sizes.items())}.",
    ]
    if found.failed:
        lines.append(f"- Failed: {'; '.join(f'{one.cell.name} ({one.reason})' for one in found.failed)}.")
    if found.absent:
        lines.append(f"- Missing, of {counted(len(planned_cells), 'planned cell')}: {_missing(found, planned_cells)}.")
    return "\n".join(lines) + "\n"


def _missing(found: Findings, planned_cells: Sequence[Cell]) -> str:
    """How many planned cells of each method are not there, and of which rates."""
    absent: dict[str, list[Cell]] = {}
    for cell in planned_cells:
        if cell.name in found.absent:
            absent.setdefault(cell.label, []).append(cell)
    of = Counter(cell.label for cell in planned_cells)
    words = {label: ", ".join(rate_word(rate) for rate in sorted({cell.rate for cell in cells})) for label, cells in absent.items()}
    return "; ".join(f"{label} {len(cells)} of {of[label]} ({words[label]})" for label, cells in absent.items())


def _of_base(found: Findings) -> str:
    """What the base LLM answers right, tier by tier; it takes no images."""
    base = next((one for one in found.grid.results if one.cell.method == BASE), None)
    if base is None:
        return "nothing yet: its cell is not there"
    tiers = sorted(base.scores, key=tier_order)
    return ", ".join(f"{tier} {in_percent(base.scores[tier].correct / base.scores[tier].n)}" for tier in tiers)


def _claims(found: Findings) -> str:
    head = ["claim", "of", "held equal", "Wings - full tuning", "p (Holm)", "detectable", "n", "seeds", "verdict"]
    rows = []
    for test in found.claims:
        one, verdict = test.effect, f"**{test.verdict}**{', full tuning is better' if test.opposite else ''}"
        visible = NOTHING if one.detectable is None else percent(one.detectable)
        rows.append(
            [
                test.claim,
                test.measure.title,
                test.how,
                tables.figure(one.figure),
                tables.p(one),
                visible,
                str(one.figure.n),
                str(one.seeds),
                verdict,
            ]
        )
    why = [f"- {test.measure.title}, {test.how}: {test.effect.figure.note}." for test in found.claims if test.effect.figure.value is None]
    reasons = "\nWithout a figure:\n\n" + "\n".join(why) + "\n" if why else ""
    return f"\n## The paper's claims\n{tables.table(head, rows)}\n{RULE}\n{reasons}"


def learners(folder: Path = SILENCED) -> str:
    """The section on what the learners do to text after an image; nothing where no model was silenced."""
    if not (folder / silenced.ROUTER).is_file():
        return ""
    grid, table = load(folder), pd.read_parquet(folder / silenced.ROUTER)
    found = silenced.effects(grid)
    head = ["rate", "silent", "text after an image", "of each seed", "VQA", "of each seed"]
    rows = [
        [rate_word(one.rate), one.label, *(word for effect in one.effects for word in (tables.bold(effect), _by_seed(effect)))]
        for one in found
    ]
    seeds = min(len(arm.seeds) for arm in grid.arms.values())
    router = [
        [
            rate_word(one.rate),
            *(f"{fixed(of.value, 3)} [{fixed(of.low, 3)}, {fixed(of.high, 3)}]" for of in (one.text, one.image, one.more)),
        ]
        for one in silenced.routed(table)
    ]
    shown = tables.table(["rate", "at text questions", "at questions on an image", "difference"], router)
    n = int((table.groupby(["rate", "seed"]).size()).min())
    return f"\n## {LEARNERS}\n{SILENT.format(seeds=seeds)}{tables.table(head, rows)}\n{_share(found)}\n{ROUTED.format(n=n)}{shown}"


def _by_seed(effect: Effect) -> str:
    return ", ".join(points(one) for one in effect.per_seed)


def _share(found: Sequence[silenced.Silenced]) -> str:
    """How much of what both learners do to text after an image one output does, at each rate."""
    said = []
    for rate in sorted({one.rate for one in found}):
        of = {one.label: one.effects[0].figure.value for one in found if one.rate == rate}
        both, visual = of[silenced.BOTH.label], of[silenced.VISUAL_AT_TEXT.label]
        said.append(f"{points(visual)} of {points(both)} points at {rate_word(rate)}")
    return (
        "These are shares of means, without a test of their own. Of what text after an image gains with both learners silent, the visual "
        f"learner's output at text tokens takes {'; '.join(said)}."
    )


def smol_section(cells: Path) -> str:
    """The section on SmolLM2: as the page above it, a level lower, without what its cells do not have."""
    head = "\n## SmolLM2-135M\n"
    if not any(cells.glob("*.json")):
        return f"{head}\nNot run: there are no cells of it.\n"
    planned_cells = [one.cell for one in planned(load_grid("smol"))]
    found = _found(cells, planned_cells)
    about = (
        "\nThe same experiment on SmolLM2-135M-Instruct, by the same rule of verdicts. So few steps teach it little to see: compare "
        "its VQA with that of the text-only control, which has no pictures. Claims about VQA, and at equal VQA, say little at this scale.\n"
    )
    if not found.arms:
        return f"{head}{about}\nNo method is trained yet. The base LLM answers {_of_base(found)}.\n"
    seeds = ", ".join(f"{found.grid.label(method)} {len(of)}" for method, of in _seeds(found).items())
    about += f"\nSeeds so far: {seeds}.\n"
    parts = [_setting(found, planned_cells), _claims(found), _map(found), tables.arms(found), tables.sources(found)]
    parts += [tables.tiers(found), tables.equal(found), tables.attention(found)]
    parts += [tables.pairs("Ablations", found, found.ablations), tables.cost(found)]
    return head + about + "".join(parts).replace("\n## ", "\n### ")


def _seeds(found: Findings) -> Mapping[str, set[int]]:
    """The seeds of each method that are done at any rate."""
    seeds: dict[str, set[int]] = {}
    for (method, _), arm in found.grid.arms.items():
        seeds.setdefault(method, set()).update(arm.seeds)
    return seeds


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else CELLS
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else PAGE
    target.write_text(page(source), encoding="utf-8")
    if target == PAGE and any(source.glob("*.json")):
        FIGURES.mkdir(exist_ok=True)
        made = figures(findings(load(source)))
        for old in {path.name for path in FIGURES.glob("*.svg")} - set(made):
            (FIGURES / old).unlink()
        for name, (plot, _) in made.items():
            (FIGURES / name).write_bytes(figure_files.as_svg(plot))
