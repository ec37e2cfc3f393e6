"""Reports with an explorer: of real runs on a real benchmark, and of runs full of hostile text."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluators.arms.evaluate import arms
from evaluators.iit.evaluate import evaluate
from evaluators.iit.forgetting import forgetting
from evaluators.iit.results import summarise
from evaluators.runs.options import RunOptions
from iit_bench.storage.benchmark import Benchmark, load_benchmark, save_benchmark
from iit_bench.storage.runs import PROMPTS, load_run, load_run_header, save_run_header
from iit_bench.storage.tables import table_bytes
from iit_bench.types import SeenPrompt
from reports.leaderboard import report
from tests.resealed import relist, save_run_outcome

SCRIPT = "</script><script>alert('script')</script><img src=x onerror=alert('image')>"
HOSTILE = {
    "script": SCRIPT,
    "attribute": "\"' onmouseover=alert(1) x='",
    "right to left": "safe \u202egnp.exe\u2066 \u05d0\u05d1 \u200f",
    "control": "a\x00b\x07c\x1b[31m\u2028d\ud800".encode("utf-8", "replace").decode(),
    "template": "{{ 7*7 }} {% raw %} ${alert(1)} `x`",
    "long": "x" * 1_000_000,
}
ARMS = ("blind", "moved-last", "irrelevant", "pixels")  # of the run of wings


@pytest.fixture(scope="session")
def real(bench: Benchmark, tmp_path_factory: Any) -> SimpleNamespace:
    """A report of the bundled models on the lab benchmark: base-llm, wings with arms, random under own history apart; and its runs."""
    root = tmp_path_factory.mktemp("real")
    runs = {name: root / "runs" / name for name in ("base-llm", "wings", "random", "random-own")}
    asked: dict[str, dict[str, Any]] = {
        "base-llm": {},
        "wings": {"base": runs["base-llm"]},
        "random": {},
        "random-own": {"model": "random", "history": "own"},
    }
    for name, options in asked.items():
        evaluate(RunOptions(**({"model": name, "device": "cpu", "bench": bench.path, "out": runs[name]} | options)), progress=False)
    arms(runs["wings"], ARMS, progress=False)
    page = report(list(runs.values()), root / "report")
    return SimpleNamespace(folder=page.parent, runs={name: load_run(path) for name, path in runs.items()}, bench=bench)


@pytest.fixture(scope="session")
def hostile(real: SimpleNamespace, tmp_path_factory: Any) -> Path:
    """The folder of a report whose questions, ids, choices, replies, prompts and names are hostile."""
    root = tmp_path_factory.mktemp("hostile")
    texts = list(HOSTILE.values())
    questions = [
        replace(
            question,
            id=f"{question.id}{texts[i % 5]}",
            source=texts[0],
            subject=texts[i % 5],
            cluster=f"{question.cluster}{texts[i % 5]}",
            question=texts[i % 6] if not question.images else f"{texts[i % 6]}<image>",
            choices=tuple(f"{choice}{texts[i % 6]}" for choice in question.choices),
            answer_text=f"{question.answer_text}{texts[i % 6]}",
        )
        for i, question in enumerate(real.bench.questions.values())
    ]
    ids = dict(zip(real.bench.questions, questions, strict=True))
    dialogues = [
        replace(
            one,
            id=f"{one.id}{texts[i % 5]}",
            turns=tuple(ids[turn].id for turn in one.turns),
            target=ids[one.target].id,
            group=ids[one.target].id,
            connectors=tuple(texts[(i + turn) % 5] for turn in range(len(one.turns))),
        )
        for i, one in enumerate(real.bench.dialogues)
    ]
    manifest = {key: value for key, value in real.bench.manifest.items() if key not in ("files", "rows_sha256", "format", "version")}
    folder = save_benchmark(root / "bench", questions, dialogues, manifest, "card")
    names = {old.id: new.id for old, new in zip(real.bench.dialogues, dialogues, strict=True)}
    made = load_benchmark(folder)
    runs = [_hostile_run(real.runs["base-llm"], root / "base-llm", made, names, ids, f"base {texts[0]}")]
    runs.append(_hostile_run(real.runs["wings"], root / "wings", made, names, ids, f"wings {texts[1]}", base=runs[0]))
    for arm in ARMS:
        of_arm = load_run(real.runs["wings"].path / "arms" / arm, "iit")
        _hostile_run(of_arm, root / "wings" / "arms" / arm, made, names, ids, f"wings {texts[1]}, {arm}")
    return report(runs, root / "report", title=SCRIPT, bench=folder).parent


def _hostile_run(
    run: Any, out: Path, bench: Benchmark, names: dict[str, str], ids: dict[str, Any], name: str, base: Path | None = None
) -> Path:
    texts = list(HOSTILE.values())
    rows = []
    for i, one in enumerate(run.predictions):
        question = ids[one.question]
        known = {"dialogue": names[one.dialogue], "group": question.id, "question": question.id, "source": question.source}
        known |= {"subject": question.subject, "cluster": question.cluster, "choices": question.choices}
        generated = {"logprobs": (), "choice_tokens": (), "evidence": "declared"}
        rows.append(replace(one, **known, **generated, reply=texts[i % 6], reasoning=texts[(i + 1) % 6], finish_reason=texts[i % 5]))
    header = {key: value for key, value in load_run_header(run.path).items() if key not in ("format", "version")}
    header |= {
        "scoring": "generate",
        "name": name,
        "benchmark": header["benchmark"] | {"rows_sha256": bench.rows_sha256},
        "system_prompt": texts[0],
    }
    save_run_header(out, header)
    results = summarise(rows, {}, True)
    if base is not None:
        results = replace(results, forgetting=forgetting(rows, load_run(base, "iit").predictions, f"base {texts[0]}", base.name))
    save_run_outcome(out, rows, results, [])
    prompts = [SeenPrompt(row.dialogue, row.position, texts[i % 6], (0,), "0" * 64) for i, row in enumerate(rows)]
    (out / PROMPTS).write_bytes(table_bytes(SeenPrompt, prompts))
    relist(out / PROMPTS)
    return out


@pytest.fixture(scope="session")
def data_of() -> Callable[[Path, str], Any]:
    """data_of(report folder, name) → what data/NAME.js gives the page."""

    def read(folder: Path, name: str) -> Any:
        text = (folder / "samples" / "data" / f"{name}.js").read_text(encoding="ascii")
        found = re.fullmatch(r'iitData\("([^"]+)","([A-Za-z0-9+/=]+)"\);\n', text)
        assert found and found[1] == name
        return json.loads(gzip.decompress(base64.b64decode(found[2])))

    return read


# ---------------------------------------------------------------- Chromium


@pytest.fixture
def visit(new_page: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """`visit(path, hash, **context options)` → the page; afterwards: a clean console, no dialog, and only files of the report asked for."""
    pages: list[Any] = []
    said: list[str] = []
    asked: list[tuple[Path, str]] = []

    def go(path: Path, address: str = "", root: Path | None = None, **options: Any) -> Any:
        page = new_page(**options)
        pages.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: asked.append((root or path.parent.parent, request.url)))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        page.goto(path.as_uri() + address)
        return page

    yield go
    for page in pages:
        page.close()
    assert said == []
    assert [url for root, url in asked if not url.startswith(root.as_uri())] == []


def opened(page: Any) -> Any:
    """The explorer once it shows what its address says, list and dialogue."""
    page.wait_for_function("() => document.getElementById('explorer').dataset.address === location.hash")
    return page


@pytest.fixture
def explore(visit: Callable[..., Any]) -> Callable[..., Any]:
    """`explore(report folder, hash, **context options)` → the explorer with a dialogue open."""
    return lambda folder, address="", **options: opened(visit(folder / "samples" / "index.html", address, **options))


def texts(locator: Any) -> Sequence[str]:
    """The texts of all elements."""
    found: list[str] = locator.all_inner_texts()
    return found
