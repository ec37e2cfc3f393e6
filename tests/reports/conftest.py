"""Run folders as `iit-bench eval` writes them, with made-up answers of a known accuracy."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluators.iit.forgetting import forgetting
from evaluators.iit.results import summarise
from evaluators.runs.outcomes import count_outcomes
from evaluators.statistics import codes, mean
from iit_bench.storage.runs import save_run_header
from iit_bench.types import Figure, Prediction, SuiteResults, TaskItem, TaskResult, tier_order
from tests.resealed import list_files, save_run_outcome

ALL_TIERS = tuple(sorted(("".join(p) for n in (1, 2, 3) for p in itertools.product("TV", repeat=n)), key=tier_order))
SUBJECTS = {"T": ("facts", ("capital", "currency", "symbol")), "V": ("easyvqa", ("colour", "shape", "yes/no"))}
CHOICES = {"colour": 8, "shape": 3, "yes/no": 2}


def prediction(tier: str, item: int, skill: float, draw: random.Random, outcome: str = "") -> Prediction:
    """One target turn. Two V targets share an image, so that clusters repeat there and nowhere else."""
    modality = tier[-1]
    source, subjects = SUBJECTS[modality]
    subject = subjects[item % len(subjects)]
    k = CHOICES.get(subject, 4)
    answer, target = (7 * item) % k, f"{source}/{item}"
    chosen = answer if draw.random() < skill else (answer + 1) % k
    chosen_norm = answer if draw.random() < 0.9 * skill else (answer + 1) % k
    cluster = f"image-{item // 2}" if modality == "V" else target
    failed = outcome == "error"
    return Prediction(
        dialogue=f"{target}/{tier}",
        position=len(tier) - 1,
        is_target=True,
        tier=tier,
        group=target,
        question=target,
        source=source,
        subject=subject,
        cluster=cluster,
        modality=modality,  # type: ignore[arg-type]
        choices=tuple(f"choice {i}" for i in range(k)),
        answer=answer,
        logprobs=() if failed else tuple(-1.0 if i == chosen else -2.0 for i in range(k)),
        choice_tokens=() if failed else (2,) * k,
        chosen=-1 if failed else chosen,
        chosen_norm=-1 if failed else chosen_norm,
        chosen_bytes=-1 if failed else chosen_norm,
        outcome=outcome or ("correct" if chosen == answer else "wrong"),  # type: ignore[arg-type]
        reply="" if failed else f"choice {chosen}",
        prompt_tokens=40,
        reply_tokens=2 * k,
    )


def header(name: str, tiers: Sequence[str], n: int, **changes: Any) -> dict[str, Any]:
    """run.json; keys of `changes` go to where run.json has them, `model` and `benchmark` are merged."""
    figures = {"n": n, "random": 0.25, "always_first": 0.26, "majority": 0.31, "choices_only": 0.33, "question_prior": None}
    seen = figures | {"question_prior": 0.6783, "random": 0.4}
    source = {"modality": "T", "split": "test", "origin": "a file", "revision": "", "licence": "MIT", "sha256": "e" * 64, "usable": 1187}
    source |= {"targets": n, "left_out": {}}
    model = {
        "name": name,
        "checkpoint": f"assets/{name}",
        "checkpoint_sha256": f"{abs(hash_of(name)):064x}",
        "chat_template_sha256": "c" * 64,
        "system_prompt": "",
        "accepts_images": True,
        "blind": False,
        "dtype": "float32",
        "device": "cpu",
        "max_context": 512,
        "parameters": 2_215_680,
        "details": {"mode": "strict"},
    }
    benchmark = {
        "name": "lab",
        "rows_sha256": "b" * 64,
        "seed": 0,
        "tiers": dict.fromkeys(tiers, n),
        "sources": {"facts": source | {"left_out": {"several correct answers": 28}}, "easyvqa": source | {"revision": "1.0"}},
        "baselines": {"T": figures, "V": seen, "easyvqa": seen, "easyvqa/yes/no": seen | {"question_prior": 0.8241}},
    }
    run = {
        "name": name,
        "model": model | changes.pop("model", {}),
        "suite": "iit",
        "benchmark": benchmark | changes.pop("benchmark", {}),
        "scoring": "loglikelihood",
        "style": "cloze",
        "history": "gold",
        "limit": None,
        "tiers": list(tiers),
        "max_new_tokens": 32,
        "batch_tokens": 8192,
        "seed": 0,
        "command": f"iit-bench eval --model {name} --bench demo/bench --out demo/runs/{name}",
        "arguments": {},
        "versions": {"python": "3.11.9", "iit-bench": "0.1.0", "torch": "2.13.0"},
        "git_commit": "0123456789abcdef",
        "started": "2026-01-02T03:04:05+00:00",
        "ended": "2026-01-02T03:05:25+00:00",
        "seconds": 80.4,
        "tokens": 1_234_567,
        "resumed": 0,
    }
    return run | changes


def hash_of(name: str) -> int:
    """A stable number for a name (`hash` changes with PYTHONHASHSEED)."""
    return int.from_bytes(name.encode()[:24], "big")


MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def maker_in() -> Callable[[Path], MakeRun]:
    """For fixtures that outlive a test: a `make_run` that writes under the folder it is given."""
    return run_maker


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    return run_maker(tmp_path)


def run_maker(root: Path) -> MakeRun:
    """`make(name, skill)` writes a run folder and gives its path; `bench`: all tiers, where only `tiers` are asked for."""
    answers: dict[str, list[Prediction]] = {}

    def make(
        name: str,
        skill: float | Callable[[str], float] = 0.8,
        *,
        n: int = 40,
        tiers: Sequence[str] = ALL_TIERS,
        text_only: bool = False,
        bench: Sequence[str] = (),
        base: str = "",
        failed: int = 0,
        folder: str = "",
        unparsed: int = 0,
        **changes: Any,
    ) -> Path:
        run = [tier for tier in tiers if not (text_only and "V" in tier)]
        unavailable = dict.fromkeys((tier for tier in tiers if tier not in run), "the model takes no images")
        skill_of = skill if callable(skill) else lambda tier: float(skill)
        predictions = []
        for tier in run:
            for item in range(n):
                outcome = "error" if item < failed else "unparsed" if item < failed + unparsed else ""
                predictions.append(prediction(tier, item, skill_of(tier), random.Random(f"{name}/{tier}/{item}"), outcome))
        answers[folder or name] = predictions
        results = summarise(predictions, unavailable, complete=not failed, benchmark_tiers=bench or None)
        if base:
            results = replace(results, forgetting=forgetting(predictions, answers[base], base, base))
        errors = [
            {"dialogue": p.dialogue, "position": p.position, "tier": p.tier, "question": p.question, "kind": "machine"}
            | {"reason": "out of memory", "detail": "could not allocate 2 GiB"}
            for p in predictions
            if p.outcome == "error"
        ]
        path = root / (folder or name)
        if text_only:
            changes["model"] = {"accepts_images": False} | changes.get("model", {})
        save_run_header(path, header(name, bench or tiers, n, **changes) | {"tiers": list(tiers)})
        save_run_outcome(path, predictions, results, errors)
        list_files(path)
        return path

    return make


# ---------------------------------------------------------------- the suites text and vqa


MakeSuiteRun = Callable[..., Path]


def task_items(name: str, task: str, skill: float, n: int, *, metric: str = "acc", share: int = 1, failed: int = 0) -> list[TaskItem]:
    """Items of one task; `share` of them hang on one image."""
    draw = random.Random(f"{name}/{task}")
    items = []
    for item in range(n):
        right = draw.random() < skill
        outcome = "error" if item < failed else "correct" if right else "wrong"
        score = float(outcome == "correct")
        items.append(TaskItem(task, str(item), f"image-{item // share}", metric, score, outcome, "a reply"))  # type: ignore[arg-type]
    return items


def suite_header(name: str, suite: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """run.json of a text or vqa run, as `header.describe_suite` writes it."""
    ours = header(name, ("T",), 1, **changes)
    for key in ("benchmark", "scoring", "style", "history", "tiers", "batch_tokens"):
        del ours[key]
    ours |= {"suite": suite, "tasks": [], "judge": "exact_matching", "num_fewshot": None, "apply_chat_template": False, "gen_kwargs": ""}
    ours |= {"max_new_tokens": None, "system_prompt": "", "arguments": {"out": str(folder)}}
    return ours | {key: value for key, value in changes.items() if key != "model"}


@pytest.fixture(scope="session")
def suite_maker_in() -> Callable[[Path], MakeSuiteRun]:
    return suite_run_maker


@pytest.fixture
def make_suite_run(tmp_path: Path) -> MakeSuiteRun:
    return suite_run_maker(tmp_path)


def suite_run_maker(root: Path) -> MakeSuiteRun:
    """`make("text", "wings", {"arc_easy": 0.7})` writes a run folder and gives its path."""

    def make(
        suite: str,
        name: str,
        skills: dict[str, float],
        *,
        n: int = 40,
        folder: str = "",
        asked: dict[str, Any] | None = None,
        failed: int = 0,
        groups: dict[str, tuple[str, ...]] | None = None,
        **changes: Any,
    ) -> Path:
        path = root / (folder or f"{name}-{suite}")
        share = 2 if suite == "vqa" else 1
        items = {task: task_items(name, task, skill, n, share=share, failed=failed) for task, skill in skills.items()}
        known: dict[str, Any] = {"documents_sha256": "d" * 64}
        if suite == "text":
            known |= {"n_shot": 0, "version": "1.0", "output_type": "multiple_choice", "chance": {"acc": 0.25}}
        known |= asked or {}
        results = []
        for group, members in (groups or {}).items():
            rows = [item for task in members for item in items[task]]
            own = {"members": members, "n_shot": 0, "documents_sha256": "d" * 64}
            results.append(result_of(group, rows, **own))
        for task, rows in items.items():
            results.append(result_of(task, rows, **known))
        flat = [item for rows in items.values() for item in rows]
        errors = [
            {"task": item.task, "item": item.item, "kind": "machine", "reason": "server gone", "detail": "refused"}
            for item in flat
            if item.outcome == "error"
        ]
        save_run_header(path, suite_header(name, suite, path, **changes))
        found = SuiteResults(suite=suite, complete=not failed, outcomes=count_outcomes(flat), tasks=tuple(results))  # type: ignore[arg-type]
        save_run_outcome(path, flat, found, errors)
        list_files(path)
        return path

    return make


def result_of(task: str, rows: Sequence[TaskItem], **asked: Any) -> TaskResult:
    return TaskResult(task=task, metric="acc", scores={"acc": mean_of(rows)}, outcomes=count_outcomes(rows), **asked)


def mean_of(items: Sequence[TaskItem]) -> Figure:
    return mean([item.score for item in items], codes((item.task, item.cluster) for item in items))


# ---------------------------------------------------------------- Chromium

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 120_000  # milliseconds, on a machine that does much else besides
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One browser for all tests of a process: Playwright starts once in each."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    if not CHROMIUM.exists():
        pytest.skip(f"Chromium is not at {CHROMIUM} (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def new_page(chromium: Any) -> Callable[..., Any]:
    """`new_page(**context options)` → a page for which nothing is stored, to be closed after use.

    Pages with the same options share a context: half of the time of a test was that of making one.
    """
    contexts: dict[str, Any] = {}

    def make(**options: Any) -> Any:
        key = json.dumps(options, sort_keys=True)
        if key not in contexts:
            contexts[key] = chromium.new_context(**options)
            contexts[key].set_default_timeout(PATIENCE)
        page = contexts[key].new_page()
        stored = {"origin": "file://", "storageTypes": "all"}
        contexts[key].new_cdp_session(page).send("Storage.clearDataForOrigin", stored)
        return page

    return make


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, out of PyPI's axe-playwright-python."""
    package = importlib.util.find_spec("axe_playwright_python")
    if package is None or package.origin is None:
        pytest.skip("axe-core is not here: pip install axe-playwright-python")
    return Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8")
