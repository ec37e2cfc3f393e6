"""Measures the sample explorer of a report with many predictions: its files, and the first view in Chromium from disk.

    python benchmarks/explorer.py [--predictions 100000] [--runs 1] [--views 3] [--json]

The benchmark and the runs are made here: dialogues of one to three text questions, replies, log-probabilities and prompts of usual length.
Printed are:

- files, bytes, largest file: of samples/;
- first view bytes: of the files that Chromium asks for until the first dialogue is shown;
- seconds: to write the explorer, and per prediction in microseconds;
- first view: from the address to the first dialogue with its answers, median of --views, with an empty cache each time, and as a ratio to
  the same of a report with a hundredth of the predictions. Without Playwright or Chromium it is left out.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))

from evaluators.iit.results import summarise  # noqa: E402 - run as a script, the package may not be installed
from iit_bench.storage.benchmark import Benchmark, load_benchmark, save_benchmark  # noqa: E402
from iit_bench.storage.runs import PROMPTS, load_run, save_run_header, save_run_outcome  # noqa: E402
from iit_bench.storage.tables import table_bytes  # noqa: E402
from iit_bench.types import Dialogue, Prediction, Question, SeenPrompt  # noqa: E402
from reports.entries import Entry, Group  # noqa: E402
from reports.folder import ReportFolder  # noqa: E402
from reports.models import gather  # noqa: E402
from reports.pages import Site  # noqa: E402
from reports.samples.explorer import write_explorer  # noqa: E402
from reports.samples.gather import plan  # noqa: E402

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
TIERS = ("T", "TT", "TTT")
WORDS = [a + b for a in ("ka", "lo", "mi", "ne", "ru", "so", "ti", "va") for b in ("ban", "der", "fol", "gim", "han", "jol", "kur", "lem")]


def make_benchmark(folder: Path, dialogues: int, draw: random.Random) -> Benchmark:
    """A benchmark of so many dialogues, three per target."""
    targets = max(3, -(-dialogues // len(TIERS)))
    questions = []
    for number in range(targets):
        text = " ".join(draw.choices(WORDS, k=18)).capitalize() + "?"
        choices = tuple(f"{draw.choice(WORDS)} {letter}" for letter in "abcd")
        answer = draw.randrange(4)
        kinds = {"modality": "T", "source": f"source {number % 5}", "subject": f"subject {number % 40}", "language": "en"}
        questions.append(
            Question(
                id=f"made/{number}",
                cluster=f"made/{number}",
                question=text,
                images=(),
                choices=choices,
                answer=answer,
                answer_text=choices[answer],
                **kinds,  # type: ignore[arg-type]
            )
        )
    asked = []
    for number, question in enumerate(questions):
        for tier in TIERS:
            history = [questions[(number + 1 + turn) % targets].id for turn in range(len(tier) - 1)]
            turns = (*history, question.id)
            asked.append(
                Dialogue(id=f"{tier}:{question.id}", tier=tier, visual_share=0.0, group=question.id, turns=turns, target=question.id)
            )
    manifest = {"name": "made", "seed": 0, "tiers": dict.fromkeys(TIERS, targets), "default_style": "cloze"}
    return load_benchmark(save_benchmark(folder, questions, asked[:dialogues], manifest, "made"))


def make_run(folder: Path, bench: Benchmark, name: str, draw: random.Random) -> Path:
    """A finished run folder whose model is right in three of four dialogues."""
    rows, prompts = [], []
    for dialogue in bench.dialogues:
        question = bench.questions[dialogue.target]
        chosen = question.answer if draw.random() < 0.75 else draw.randrange(4)
        logprobs = tuple(-draw.random() * 5 - (0 if choice == chosen else 6) for choice in range(4))
        position = len(dialogue.turns) - 1
        rows.append(
            Prediction(
                dialogue=dialogue.id,
                position=position,
                is_target=True,
                tier=dialogue.tier,
                group=dialogue.group,
                question=question.id,
                source=question.source,
                subject=question.subject,
                cluster=question.cluster,
                modality=question.modality,
                choices=question.choices,
                answer=question.answer,
                logprobs=logprobs,
                choice_tokens=(3, 3, 3, 3),
                chosen=chosen,
                chosen_norm=chosen,
                chosen_bytes=chosen,
                outcome="correct" if chosen == question.answer else "wrong",
                reply=question.choices[chosen],
                prompt_tokens=120,
                reply_tokens=12,
            )
        )
        chat = [bench.questions[turn] for turn in dialogue.turns]
        text = "".join(f"<|user|>\n{one.question}<|end|>\n<|assistant|>\n{one.answer_text}<|end|>\n" for one in chat)
        prompts.append(SeenPrompt(dialogue.id, position, text, (), "0" * 64))
    model = {"name": name, "checkpoint_sha256": "", "blind": False, "accepts_images": False}
    header: dict[str, Any] = {"name": name, "model": model, "suite": "iit", "scoring": "loglikelihood", "style": "cloze", "history": "gold"}
    header |= {"benchmark": {"name": "made", "rows_sha256": bench.rows_sha256, "tiers": {}}, "limit": None, "tiers": list(TIERS)}
    save_run_header(folder, header | {"command": "", "seconds": 0.0, "tokens": 0, "resumed": 0})
    save_run_outcome(folder, rows, summarise(rows, {}, True), [])
    (folder / PROMPTS).write_bytes(table_bytes(SeenPrompt, prompts))
    return folder


def measure(root: Path, predictions: int, runs: int, views: int) -> dict[str, Any]:
    """Write an explorer of so many predictions and look at it."""
    draw = random.Random(0)
    bench = make_benchmark(root / "bench", predictions // runs, draw)
    folders = [make_run(root / f"run-{number}", bench, f"run-{number}", draw) for number in range(runs)]
    entries = tuple(Entry(load_run(path, "iit"), path.name, number, path.name) for number, path in enumerate(folders))
    started = time.process_time()
    shown = plan([(Group(entries), bench)], gather(entries, []), True)
    write_explorer(shown, "made", Site(folder=ReportFolder(root / "report")))
    seconds = time.process_time() - started
    samples = root / "report" / "samples"
    sizes = {path.relative_to(samples).as_posix(): path.stat().st_size for path in samples.rglob("*") if path.is_file()}
    found: dict[str, Any] = {"predictions": predictions, "files": len(sizes), "bytes": sum(sizes.values())}
    found |= {"largest file": max(sizes.values()), "seconds": seconds, "microseconds per prediction": 1e6 * seconds / predictions}
    return found | first_view(samples, sizes, views)


def first_view(samples: Path, sizes: dict[str, int], views: int) -> dict[str, Any]:
    """Bytes and seconds until Chromium shows the first dialogue; {} without it."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if not CHROMIUM.exists():
        return {}
    times, asked = [], set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        for _ in range(views):
            page = browser.new_context().new_page()
            page.on("request", lambda request: asked.add(request.url))
            started = time.perf_counter()
            page.goto((samples / "index.html").as_uri())
            page.wait_for_selector("#detail table")
            times.append(time.perf_counter() - started)
            page.context.close()
        browser.close()
    names = [url.removeprefix(samples.as_uri() + "/").partition("#")[0] for url in asked]
    return {"first view": statistics.median(times), "first view bytes": sum(sizes[name] for name in names)}


def main() -> None:
    """Run the measurement and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        small = measure(Path(scratch) / "small", max(options.predictions // 100, 3), options.runs, options.views)
        found = measure(Path(scratch) / "large", options.predictions, options.runs, options.views)
    if "first view" in found:
        found["first view / of a hundredth"] = found["first view"] / small["first view"]
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {value:,.6g}" for name, value in found.items()))


if __name__ == "__main__":
    main()
