"""Change folders that iit-bench wrote, one value or byte at a time, and count what is noticed (docs/reliability.md).

    python tests/reliability/damage.py DIR [EVERY] [--docs]

DIR is a folder for the copies; one of EVERY damages is tried, by default each. Prints a table; --docs writes it into docs/reliability.md.

Every JSON field is changed, removed and renamed, every byte of a log is changed to others of its class and of other classes, every line is
removed, doubled, cut and followed by one that contradicts it, tables are written again with one value or row changed, every file is
removed, cut and changed in some bytes. What reads the folder has to refuse it, or to find what it found before ("harmless": an answer that
is asked again); `iit-bench verify` is asked, too.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from builders.build import BuildOptions, build
from builders.export.export import ExportOptions, export
from evaluators.attention.table import FILE, Observed, ObservedDialogue, observed_of, save_observed
from evaluators.iit.evaluate import evaluate
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import load_run
from iit_bench.data.fetched import FetchedFile, FetchedSet, load_sets, save_sets
from iit_bench.engine.lines import entry_line
from iit_bench.engine.log import ResponseLog
from iit_bench.errors import ItemError, UserError
from iit_bench.lab import cells
from iit_bench.models.contract import ScoreResult
from iit_bench.models.openai.ledger import Ledger
from iit_bench.storage.benchmark import load_benchmark
from iit_bench.storage.format import TRAINING_FORMAT, sealed_json, sha256_file
from iit_bench.storage.runs import PROMPTS, load_run_header, save_finished_header
from iit_bench.storage.tables import table_bytes
from iit_bench.training.train import read_card
from iit_bench.types import SeenPrompt
from iit_bench.workflows.verifying import verify
from reports.folder import ReportFolder
from tests.lab.test_cells import ITEMS, RESULT
from tests.reliability.damages import damaged_tables, damages
from tests.reliability.tally import commit, put

ROOT = Path(__file__).parents[2]
OUTCOMES = ("harmless", "detected", "silently accepted", "internal error")
Reader = Callable[[Path], Any]  # of a folder; what it returns is compared


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A folder to damage, and what reads it."""

    name: str
    folder: Path
    read: Reader | None = None  # besides `verify`
    logs: tuple[str, ...] = ()  # files whose torn end is no fault: what is lost is asked again
    optional: tuple[str, ...] = ()  # files that such a folder may be without, so that nobody misses them


# ---------------------------------------------------------------- damages


def damaged_logs(data: bytes) -> Iterator[bytes]:
    """A log with one byte changed to another digit, letter, sign, line break or no text at all; with a line removed, doubled or cut."""
    for place, byte in enumerate(data):
        for other in b'7x",}\n\xc3':
            if other != byte:
                yield data[:place] + bytes([other]) + data[place + 1 :]
    lines = data.splitlines(keepends=True)
    for place, line in enumerate(lines):
        before, after = b"".join(lines[:place]), b"".join(lines[place + 1 :])
        yield before + after
        yield before + line + line + after
        yield before + line[: len(line) // 2] + after
        if b'"key":' in line:  # the same request with another answer, its checksum right
            yield before + line + entry_line(json.loads(line)["key"], ScoreResult((-9.0, -8.0), (1, 1), (False, False), 3)) + after


def damaged_files(data: bytes) -> Iterator[bytes | None]:
    """Any file gone (None), empty, cut, longer, and with one of 16 bytes changed."""
    yield from (None, b"", data[: len(data) // 2], data + b"x")
    for place in range(0, len(data), max(len(data) // 16, 1)):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


# ---------------------------------------------------------------- the folders


def subjects(place: Path, bench: Path | None = None) -> list[Subject]:
    """Small folders of every kind. Only the training is put together here: a shipped model's, with the card that a training writes now."""
    bench = bench or build(BuildOptions(out=place / "bench", preset="lab", size=2, tiers="T VT"))
    run = place / "run"
    evaluate(RunOptions(model="random", bench=bench, out=run, limit=2), progress=False)
    with Ledger(run / "batches.jsonl") as ledger:
        ledger.uploaded("u", "f", "/chat/completions", ["a", "b"])
        ledger.created("f", "batch-7")
        ledger.collected("f", "completed", {"a": ItemError("refused", "policy")})
    _add_tables(run)
    export(ExportOptions(bench=bench, out=place / "export", to="lm-eval"), progress=False)
    cells.write(place / "cells", RESULT, ITEMS)
    root = place / "data"
    (root / "owner").mkdir(parents=True)
    (root / "owner" / "a.parquet").write_bytes(b"rows")
    file = FetchedFile(size=4, sha256=sha256_file(root / "owner" / "a.parquet"), checked="md5")
    sets = {"owner": FetchedSet(source="s", revision="r", ref="main", licence="MIT", splits={"main": {"test": ("owner/a.parquet",)}})}
    sets["owner"].files["owner/a.parquet"] = file
    save_sets(root, sets)
    report = ReportFolder(place / "report")
    report.write("index.html", "<p>")
    report.write("models/a.html", "<p>a")
    report.tidy()
    return [
        Subject(name="benchmark", folder=_copy(bench, place / "benchmark"), read=load_benchmark),
        Subject(name="run", folder=run, read=_read_run, logs=("responses.jsonl", "batches.jsonl"), optional=(FILE,)),
        Subject(name="training", folder=_training(place / "training"), read=read_card),
        Subject(name="export", folder=place / "export"),
        Subject(name="data root", folder=root, read=load_sets, optional=("fetched.json",)),
        Subject(name="cells of the experiment", folder=place / "cells", read=_read_cells),
        Subject(name="report", folder=report.path),
    ]


def _add_tables(run: Path) -> None:
    """What a model that renders chats here, and whose attention was observed, leaves beside the rest of a run."""
    header = load_run_header(run)
    (run / PROMPTS).write_bytes(table_bytes(SeenPrompt, [SeenPrompt("T:a", 0, "Which?", (), "0" * 64)]))
    save_finished_header(run, header)
    counts = dict.fromkeys(("n_before", "n_image", "n_between", "n_after"), 1)
    curves = {"layers": (0, 1), "before": (0.1, 0.2), "image": (0.3, 0.3), "between": (0.1, 0.1), "after": (0.5, 0.4)}
    row = ObservedDialogue(dialogue="VT:a", tier="VT", group="a", cluster="c", history_clusters=("d",), **counts, **curves)  # type: ignore[arg-type]
    about = {name: header[name] for name in ("name", "model", "benchmark", "style", "system_prompt")}
    save_observed(run / FILE, Observed(about, [row]))


def _copy(source: Path, target: Path) -> Path:
    return shutil.copytree(source, target)


def _training(folder: Path) -> Path:
    _copy(ROOT / "iit_bench" / "assets" / "models" / "tower", folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:4000])  # its bytes are only hashed
    (folder / "heads.safetensors").unlink()
    (folder / "log.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25}\n')
    card = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    card["files"] = {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.name != "training.json"}
    (folder / "training.json").write_text(sealed_json(TRAINING_FORMAT, card), encoding="utf-8")
    return folder


def _read_run(folder: Path) -> Any:
    """All that reports, comparisons and a resumed run take from a run folder; of the log what it has of the answers."""
    run = load_run(folder, "iit")
    with ResponseLog(folder / "responses.jsonl") as log, Ledger(folder / "batches.jsonl"):
        answers, sent = dict(log.responses), (folder / "batches.jsonl").read_bytes().splitlines()
    return {
        "run": dict(run.run),
        "results": run.results,
        "errors": run.errors,
        "predictions": run.predictions,
        "prompts": {name: column.to_pylist() for name, column in (run.prompt_columns() or {}).items()},
        "attention": None if (seen := observed_of(run)) is None else (dict(seen.about), seen.rows),
        "log": answers,
        "sent": sent,
    }


def _read_cells(folder: Path) -> Any:
    return cells.read(folder), cells.items(folder).to_dict("records")


# ---------------------------------------------------------------- the trial


@dataclass
class Trial:
    """Counts per kind of folder and file."""

    every: int = 1
    seen: int = 0
    counts: Counter[tuple[str, str, str]] = dataclasses.field(default_factory=Counter)  # (folder, file, outcome)
    unnoticed: list[str] = dataclasses.field(default_factory=list)
    unverified: list[str] = dataclasses.field(default_factory=list)  # refused by what reads the folder, and not seen by `verify`

    def subject(self, one: Subject) -> None:
        """Damage each file of a folder."""
        whole = one.read(one.folder) if one.read else None
        assert all(found.whole and found.finished for found in verify([one.folder])), verify([one.folder])
        for path in sorted(path for path in one.folder.rglob("*") if path.is_file() and path.name != "README.md"):
            data, name = path.read_bytes(), path.relative_to(one.folder).as_posix()
            for damaged in self._chosen(path, data, name in one.logs):
                if damaged is None and name in one.optional:
                    continue
                self._try(one, path, name, damaged, whole)
                path.write_bytes(data)

    def _chosen(self, path: Path, data: bytes, log: bool) -> Iterator[bytes | None]:
        tried: list[Iterator[bytes | None]] = [damaged_files(data)]
        if log:
            tried.append(damaged_logs(data))
        elif path.suffix == ".json":
            tried.append(json.dumps(one).encode() for one in damages(json.loads(data)))
        elif path.suffix == ".parquet":
            tried.append(damaged_tables(data))
        for damaged in (one for kind in tried for one in kind):
            self.seen += 1
            if self.seen % self.every == 0:
                yield damaged

    def _try(self, one: Subject, path: Path, name: str, damaged: bytes | None, whole: Any) -> None:
        path.unlink() if damaged is None else path.write_bytes(damaged)
        told = f"{one.name}: {name}: {'removed' if damaged is None else damaged[:300]!r}"
        read = _outcome(lambda: one.read(one.folder) if one.read else whole, lambda now: _is_same(whole, now, name in one.logs))
        verified = _outcome(lambda: verify([one.folder]), lambda found: all(record.whole and record.finished for record in found))
        if read == "detected" and verified == "harmless":
            self.unverified.append(told)
        if verified == "silently accepted":  # a record that is not whole, or not finished any more
            verified = "detected"
        if verified == "harmless" and one.read is None:
            verified = "silently accepted"
        outcome = next(found for found in reversed(OUTCOMES) if found in (read, verified))
        if outcome == "harmless" and verified == "detected":
            outcome = "detected"
        self.counts[one.name, path.suffix, outcome] += 1
        if outcome not in ("detected", "harmless"):
            self.unnoticed.append(f"{outcome}: {told}")

    def table(self) -> str:
        """The counts as a table in Markdown."""
        rows = ["| folder | files | tried | harmless | detected | silently accepted | internal errors |", "|---|---|---|---|---|---|---|"]
        for name, suffix in sorted({(name, suffix) for name, suffix, _ in self.counts}):
            found = [self.counts[name, suffix, outcome] for outcome in OUTCOMES]
            rows.append(f"| {name} | {suffix or 'no suffix'} | {sum(found):,} | {' | '.join(f'{count:,}' for count in found)} |")
        return "\n".join([*rows, ""])


def _outcome(read: Callable[[], Any], is_same: Callable[[Any], bool]) -> str:
    try:
        return "harmless" if is_same(read()) else "silently accepted"
    except UserError:
        return "detected"
    except Exception as error:  # noqa: BLE001 - counted
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "internal error"


def _is_same(whole: Any, now: Any, is_log: bool) -> bool:
    """Whether the same was found as before; of a log, but for answers that are asked again, and for what is missing at its end."""
    if not is_log:
        return bool(now == whole)
    answers = {key: whole["log"].get(key) for key in now["log"]}
    begins = whole["sent"][: len(now["sent"])] == now["sent"]
    return begins and now == {**whole, "log": answers, "sent": now["sent"]}


def write(trial: Trial) -> None:
    """Write the table into docs/reliability.md."""
    of = f", one damage of {trial.every}" if trial.every > 1 else ""
    put("damage.py", f"Tried on {commit()}{of}:\n\n{trial.table()}")


def main() -> int:
    """Run the trial and print its table."""
    words = [word for word in sys.argv[1:] if word != "--docs"]
    trial = Trial(every=int(words[1]) if len(words) > 1 else 1)
    for one in subjects(Path(words[0])):
        trial.subject(one)
    print(trial.table(), *trial.unnoticed[:20], "refused by a reader, and whole for verify:", *trial.unverified[:20], sep="\n")
    if "--docs" in sys.argv:
        write(trial)
    return int(bool(trial.unnoticed))


if __name__ == "__main__":
    sys.exit(main())
