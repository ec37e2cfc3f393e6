"""Makes run folders of any size with made-up answers, in the real format, for `report.py`.

Their shape is that of a built benchmark: 14 tiers, two modalities with as many targets, 6 visual targets to an image and 3 text targets to
a fact, history questions near the target, so that a history cluster serves a handful of groups. The last run is the one before it without
images.
"""

from __future__ import annotations

import itertools
import random
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.iit.columns import Turns
from evaluators.iit.results import summarise
from iit_bench.storage.runs import Run, save_results, save_rows, save_run_header
from iit_bench.types import Prediction, tier_order

TIERS = tuple(sorted(("".join(part) for n in (1, 2, 3) for part in itertools.product("TV", repeat=n)), key=tier_order))
SHARED_BY = {"T": 3, "V": 6}  # targets per cluster
NO_RESULTS = summarise((), {}, complete=False)  # of a run whose predictions are written and whose figures are not made yet
SUBJECTS = {"T": ("facts", [f"subject {i}" for i in range(12)]), "V": ("easyvqa", ["colour", "shape", "yes/no", "count"])}


@dataclass(frozen=True)
class Skills:
    """How good a made-up model is."""

    text: float
    visual: float
    lost_by_image: float  # per visual turn before the target


def dialogues(targets: int, seed: int, history_clusters: int) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """(tier, target, history clusters) of every dialogue; each target under every tier of its modality, in the order of a build.

    `history_clusters` serve as histories per modality, chosen at random; 0 for those near the target.
    """
    draw = random.Random(seed)
    for target in range(targets):
        if history_clusters:
            near = {m: [draw.randrange(history_clusters) for _ in range(3)] for m in "TV"}
        else:
            near = {m: [(target + draw.randint(-20, 20)) % targets // SHARED_BY[m] for _ in range(3)] for m in "TV"}
        for tier in TIERS:
            yield tier, target, tuple(f"{m}-cluster-{near[m][turn]}" for turn, m in enumerate(tier[:-1]))


def predictions(name: str, targets: int, skills: Skills, seed: int, history_clusters: int = 0) -> Iterator[Prediction]:
    """The scored targets of one run, one after the other."""
    draw = random.Random(f"{name}/{seed}")
    hard = array("d", (draw.gauss(0, 0.15) for _ in range(targets)))
    for tier, target, history in dialogues(targets, seed, history_clusters):
        yield _prediction(tier, target, history, skills, hard[target], draw)


def _prediction(tier: str, target: int, history: tuple[str, ...], skills: Skills, hard: float, draw: random.Random) -> Prediction:
    modality = tier[-1]
    source, subjects = SUBJECTS[modality]
    k = 2 + target % 7
    answer = target % k
    level = (skills.text if modality == "T" else skills.visual) - skills.lost_by_image * tier[:-1].count("V") + hard
    chosen = answer if draw.random() < level else draw.randrange(k)
    failed = draw.random() < 1e-3
    question = f"{source}/{subjects[target % len(subjects)]}/{target}"
    choices = tuple(f"choice {target * 7 + i} of some words" for i in range(k))
    logprobs = tuple(-draw.random() - 0.5 - 3 * (i != chosen) for i in range(k))
    norm, in_bytes = (max(range(k), key=lambda i: logprobs[i] / length(choices[i])) for length in (len, lambda text: len(text.encode())))
    return Prediction(
        dialogue=f"{tier}:{question}",
        position=len(tier) - 1,
        is_target=True,
        tier=tier,
        group=question,
        question=question,
        source=source,
        subject=subjects[target % len(subjects)],
        cluster=f"{modality}-cluster-{target // SHARED_BY[modality]}",
        modality=modality,  # type: ignore[arg-type]
        choices=choices,
        answer=answer,
        logprobs=() if failed else logprobs,
        choice_tokens=() if failed else (5,) * k,
        chosen=-1 if failed else chosen,
        chosen_norm=-1 if failed else norm,
        chosen_bytes=-1 if failed else in_bytes,
        outcome="error" if failed else "correct" if chosen == answer else "wrong",
        reply="" if failed else choices[chosen],
        prompt_tokens=0 if failed else 60 * len(tier),
        reply_tokens=0 if failed else 5 * k,
        history_clusters=history,
    )


def header(name: str, targets: int, number: int, blind: bool) -> dict[str, Any]:
    """run.json, with what a report needs."""
    figures = {"n": targets, "random": 0.25, "always_first": 0.26, "majority": 0.31, "choices_only": 0.33, "question_prior": 0.4}
    model = {"name": name, "checkpoint": name, "checkpoint_sha256": f"{number:064x}", "chat_template_sha256": "c" * 64, "blind": blind}
    model |= {"accepts_images": True, "dtype": "float32", "device": "cpu", "max_context": 4096, "parameters": 10**9, "details": {}}
    benchmark = {"name": "made up", "rows_sha256": "b" * 64, "seed": 0, "tiers": dict.fromkeys(TIERS, targets), "sources": {}}
    return {
        "name": name,
        "model": model,
        "suite": "iit",
        "benchmark": benchmark | {"baselines": {"T": figures, "V": figures}},
        "scoring": "loglikelihood",
        "style": "cloze",
        "history": "gold",
        "limit": None,
        "tiers": list(TIERS),
        "command": f"iit-bench eval --model {name} --bench bench --out {name}",
        "arguments": {},
        "versions": {},
        "seconds": 60.0,
        "tokens": targets * len(TIERS) * 150,
        "resumed": 0,
    }


def make_runs(folder: Path, n_runs: int, n_predictions: int, seed: int = 0, history_clusters: int = 0) -> list[Path]:
    """Write `n_runs` run folders of about `n_predictions` each, and return their paths. No run's predictions are in memory as objects."""
    targets = max(1, n_predictions // len(TIERS))
    paths = []
    for number in range(n_runs):
        blind = number == n_runs - 1 and n_runs > 1
        name = f"model-{number:02}"
        skills = Skills(0.9 - 0.03 * number, 0.2 if blind else 0.8 - 0.03 * number, 0.05)
        path = folder / name
        head = header(name, targets, number - blind, blind)
        save_run_header(path, head)
        errors: list[dict[str, Any]] = []
        digest = save_rows(path, _noted(predictions(name, targets, skills, seed, history_clusters), errors), Prediction)
        columns = Turns.of_run(Run(path=path, run=head, results=NO_RESULTS))
        save_results(path, digest, summarise(columns, {}, complete=True), errors)
        paths.append(path)
    return paths


def _noted(rows: Iterable[Prediction], errors: list[dict[str, Any]]) -> Iterator[Prediction]:
    """The rows, of which those that failed are entered among `errors`."""
    for row in rows:
        if row.outcome == "error":
            errors.append(_error(row))
        yield row


def _error(p: Prediction) -> dict[str, Any]:
    line = {"dialogue": p.dialogue, "position": p.position, "tier": p.tier, "question": p.question}
    return line | {"kind": "item", "reason": "context overflow", "detail": "5000 tokens, the model takes 4096"}
