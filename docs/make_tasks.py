"""Writes docs/tasks.md from the tasks themselves; a test compares the two.

    python docs/make_tasks.py

Task, split, metric, source and revision are read from lm-eval, VLMEvalKit and tests/. What no package
states is below: how many items the makers publish, and under which licence.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from builders.baselines import Baselines  # noqa: E402 - run as a script, the package may not be installed
from builders.sources.base import SourceOptions, load_source  # noqa: E402
from evaluators.fetch.needs import needs_of, suite_configs  # noqa: E402
from evaluators.text.tasks import PRESETS  # noqa: E402
from evaluators.vqa.datasets import kind_of  # noqa: E402
from evaluators.vqa.presets import PRESETS as VQA_PRESETS  # noqa: E402
from iit_bench.data import flags  # noqa: E402
from iit_bench.tools.lm_eval.configs import evaluated_split  # noqa: E402
from iit_bench.tools.vlmevalkit import (  # noqa: E402
    dataset_class,
    licence_of_table,
    shells,
)

# Task -> (items as published, licence as the makers' pages have it).
TEXT = {
    "mmlu": ("14,042 in 57 subjects", "MIT"),
    "cmmlu": ("about 11,500 in 67 subjects", "CC-BY-NC-4.0"),
    "arc_easy": ("2,376", "CC-BY-SA-4.0"),
    "arc_challenge": ("1,172", "CC-BY-SA-4.0"),
    "winogrande": ("1,267", "CC-BY"),
    "openbookqa": ("500", "not stated"),
    "iit_race_middle": ("362 passages, the last question of each", "research only"),
    "race": ("1,045 passages, the last question of each", "research only"),
    "wsc": ("104", "see SuperGLUE"),
    "iit_chid": ("the blanks of 3,218 texts", "not stated"),
    "hellaswag": ("10,042", "MIT"),
    "social_iqa": ("1,954", "not stated"),
    "piqa": ("1,838", "AFL-3.0"),
    "iit_ocnli": ("2,950 with a gold label", "not stated"),
    "gsm8k": ("1,319", "MIT"),
    "iit_mbpp": ("500", "CC-BY-4.0"),
}
# Table -> (split, items as published).
VQA = {
    "MMMU_DEV_VAL": ("validation (dev beside it)", "900"),
    "MME": ("all", "2,374 questions over 1,187 images"),
    "MMBench_DEV_EN": ("dev", "1,164, each in all turns of its choices"),
    "MMBench_DEV_CN": ("dev", "1,164, each in all turns of its choices"),
    "ScienceQA_TEST": ("test, with image", "2,017"),
    "SEEDBench_IMG": ("all, images", "14,232"),
    "AI2D_TEST": ("test", "3,088"),
    "HallusionBench": ("all", "951 with image (178 without: asked as text, reported apart)"),
}
METRICS = {"choice": "acc", "circular": "acc, all turns right", "mme": "points of 2,800", "hallusion": "aAcc, fAcc, qAcc"}
HEAD = """# Tasks of the presets

Made by `docs/make_tasks.py`; do not edit. `--tasks wings-text` and `--tasks wings-vqa` are these; any other task of lm-eval and image data
set of VLMEvalKit works by its name. `iit-bench fetch PRESET --data-root DIR` fetches them.

**n** is what the makers publish, **licence** what their pages state; nobody has counted the real files with this version. `fetch` shows
the licence of a data set's card before it starts.

**Revision.** No commit of a Hub data set is fixed here: none was verified. `iit-bench fetch` takes the commit that the branch points to at
the first fetch and writes it into `DIR/fetched.json`; everything fetched into DIR later is of that commit, `results.json` names it, and
`iit-bench fetch --like fetched.json` repeats it elsewhere, byte by byte. VLMEvalKit's tables are fixed by the md5 that it names.

**How it was checked.** *Whole preset*: loads from small invented files in the real schema and scores. *= HFLM*: every metric and every
choice's log-likelihood equals lm-eval's own HFLM on the same models. *= VLMEvalKit*: scores equal VLMEvalKit's own run of the same
model, item by item. Scores on the real data: nobody has compared them yet.
"""


LAB = """## The lab's own sources

They come with the package and need no network. Preset `lab` has `facts` and `easyvqa`, `lab2` has all. **Chance** is the mean of 1/choices,
**prior** the accuracy of the answer that is most often right for the same question text on the train split, both over all questions of the
test split (a benchmark's own are in its `manifest.json`). **Never taught** is what no training
recipe sees. Of {asked} flags {near} are nearly identical to another, and its country and facts are no choices of theirs.
"""
COLUMNS = ("task", "split", "n", "metric", "source", "revision", "how it was checked", "licence")
LAB_COLUMNS = ("source", "asks for", "n", "clusters", "chance", "prior", "never taught", "origin", "licence")
NEVER_TAUGHT = {
    "facts": "the pair of fact and wording",
    "two-hop": "the pair of question and wording; where the subject says (untaught), the question in any wording",
    "easyvqa": "the images (official split)",
    "digits": "the scans",
    "flags": "the renderings",
    "flag-facts": "the fact through the flag; the flag and the fact are",
}


def page() -> str:
    """The content of docs/tasks.md."""
    text = _table("wings-text (lm-eval)", COLUMNS, _text_rows())
    lab = LAB.format(asked=len(flags.names()), near=len(flags.alike()))
    tables = _table("wings-vqa (VLMEvalKit)", COLUMNS, _vqa_rows())
    return f"{HEAD}\n{text}\n{tables}\n{lab}\n{_table('', LAB_COLUMNS, _lab_rows())}"


def _table(title: str, columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows)]
    return (f"## {title}\n\n" if title else "") + "\n".join(lines) + "\n"


def _text_rows() -> Iterator[tuple[str, ...]]:
    for name in PRESETS["wings-text"]:
        configs = suite_configs([name])
        config = next(iter(configs.values()))
        source = f"{config['dataset_path']}" + (f", {config['dataset_name']}" if config.get("dataset_name") and len(configs) == 1 else "")
        metric = ", ".join(_metric(one) for one in config["metric_list"])
        oracle = _compared("HFLM", f"{name}_" if len(configs) > 1 else name, exact=len(configs) == 1)
        checked = "whole preset" + (", = HFLM" if oracle else "") + (" (one subject)" if oracle and len(configs) > 1 else "")
        count, licence = TEXT[name]
        yield f"`{name}`", str(evaluated_split(config)), count, metric, source, "as fetched first", checked, licence


def _lab_rows() -> Iterator[tuple[str, ...]]:
    for name, never in NEVER_TAUGHT.items():
        source = load_source(name, SourceOptions())
        assert source.train_answers is not None
        figures = Baselines({name: source.train_answers}, {name: ()}).figures(source.questions)
        subjects = dict.fromkeys(question.subject.removesuffix(" (untaught)") for question in source.questions)
        clusters = len({question.cluster for question in source.questions})
        rates = (f"{figures[rule]:.1%}" for rule in ("random", "question_prior"))
        origin = " ".join(filter(None, (source.origin, source.revision)))
        yield f"`{name}`", ", ".join(subjects), f"{len(source.questions):,}", f"{clusters:,}", *rates, never, origin, source.licence


def _metric(one: dict[str, Any]) -> str:
    return str(one["metric"]).rpartition(".")[2]


def _vqa_rows() -> Iterator[tuple[str, ...]]:
    tables = {table.name: table for table in needs_of(VQA_PRESETS["wings-vqa"]).tables}
    with shells() as root:
        for name, table in tables.items():
            metric = METRICS[kind_of(name, dataset_class(name, root))]
            checked = "whole preset" + (", = VLMEvalKit" if _compared("vlmevalkits_own", name) else "")
            split, count = VQA[name]
            yield f"`{name}`", split, count, metric, f"{name}.tsv", f"md5 {table.md5[:12]}", checked, licence_of_table(name)


def _compared(other: str, name: str, exact: bool = True) -> bool:
    """Whether a test that runs the other tool beside ours names the task."""
    texts = [path.read_text(encoding="utf-8") for path in (HERE.parent / "tests/evaluators").rglob("test*oracle*.py")]
    return any(other in text and re.search(rf'"{re.escape(name)}{"" if exact else "[a-z_]+"}"', text) for text in texts)


if __name__ == "__main__":
    (HERE / "tasks.md").write_text(page(), encoding="utf-8")
