"""Kill the processes of an evaluation again and again, under changing numbers of processes, and check what is left (docs/reliability.md).

    python tests/reliability/trial.py SUITE RUNS KILLS SEED DATA

SUITE is iit-gold, iit-own, iit-server, text or vqa; RUNS a folder for the runs; DATA a benchmark folder for iit, a data root for text.
Prints one JSON object of counts, ends with 1 at the first thing that is wrong.

The model computes in plain arithmetic; its answers depend on the other requests of a batch, so that another batch gives other bytes. Each
process is forked from this one, which has imported everything, and notes what its model is asked.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils import collect_env
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.iit.evaluate import evaluate_model
from evaluators.runs.options import RunOptions
from evaluators.text.evaluate import evaluate_text_model, load_tasks_of
from evaluators.vqa.evaluate import evaluate_vqa_model
from iit_bench.engine.plan import request_key
from iit_bench.errors import OthersAtWork
from iit_bench.models.contract import Capabilities, GenerateResult, Model, ModelInfo, ScoreResult
from iit_bench.storage.benchmark import load_benchmark
from tests.warm_processes import make_threads_anew

os.register_at_fork(after_in_child=make_threads_anew)

DONE, FAILED, ELSEWHERE = 0, 1, 3  # exit codes of a process
TABLES = {"text": "items.parquet", "vqa": "items.parquet"}
PATIENCE = {"text": 10, "vqa": 20}  # seconds until a process is killed that has not answered much yet


@dataclass
class TrialModel(Model):
    """A model in plain arithmetic, of chats and of raw text, that notes each batch it is asked in a file of its process and thread."""

    asked: Path
    pause: float = 0.004
    server: bool = False  # asked request by request, several at once
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(takes_raw_text=True))
    tokenizer: None = None
    context_limit: int | None = None

    def __post_init__(self) -> None:
        if self.server:
            self.capabilities = Capabilities(takes_raw_text=True, requests_at_once=3)
        self.info = ModelInfo(
            name="trial",
            checkpoint="",
            checkpoint_sha256="0" * 64,
            chat_template_sha256="",
            accepts_images=True,
            blind=False,
            dtype="float64",
            device="cpu",
            max_context=None,
        )

    def _seen(self, batch: Sequence[object]) -> str:
        names = [request_key(request, {})[:16] for request in batch]
        with (self.asked / f"{os.getpid()}-{threading.get_native_id()}.txt").open("a") as file:
            file.write(" ".join(names) + "\n")
        time.sleep(self.pause)
        return " ".join(names)

    def request_tokens(self, request) -> int:
        return sum(len(message.text) for message in request.messages)

    text_tokens = staticmethod(lambda request: len(repr(request)))

    def score(self, batch) -> list[ScoreResult]:
        company = self._seen(batch)
        return [self._score(request, getattr(request, "continuations", ("",)), company) for request in batch]

    def generate(self, batch) -> list[GenerateResult]:
        company = self._seen(batch)
        return [GenerateResult(hashlib.sha256(f"{company}{request_key(request, {})}".encode()).hexdigest()[:8], 1, 1) for request in batch]

    score_text, score_rolling, generate_text = score, score, generate

    def render_text(self, chat, add_generation_prompt=True) -> str:
        raise NotImplementedError

    @staticmethod
    def _score(request: object, replies: Sequence[str], company: str) -> ScoreResult:
        seeds = [hashlib.sha256(f"{company}#{request_key(request, {})}#{reply}".encode()).digest()[0] for reply in replies]
        return ScoreResult(tuple(-1 - seed / 256 for seed in seeds), (1,) * len(seeds), (False,) * len(seeds), 1)


@dataclass
class Trial:
    """Evaluations of one suite in `runs`; `data`: benchmark folder or data root."""

    suite: str
    runs: Path
    data: Path
    counts: Counter = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.runs.mkdir(parents=True, exist_ok=True)
        self.model = functools.partial(TrialModel, server=self.suite == "iit-server")
        self.table = TABLES.get(self.suite, "predictions.parquet")
        if self.suite == "text":
            self.tasks = load_tasks_of(self._text(self.runs), Path(tempfile.mkdtemp(dir=self.runs)))
            described = collect_env.get_pretty_env_info()  # lm-eval describes the machine in each process: `pip list`, for seconds
            collect_env.get_pretty_env_info = lambda: described
        elif self.suite != "vqa":
            self.benchmark = load_benchmark(self.data)

    def evaluate(self, out: Path, asked: Path) -> None:
        """One session of the evaluation, in this process."""
        model = self.model(asked)
        if self.suite == "text":
            evaluate_text_model(model, self.tasks, self._text(out), progress=False)
        elif self.suite == "vqa":
            options = RunOptions(model="trial", suite="vqa", tasks=("easyvqa",), out=out, limit=40, batch_size=2)
            evaluate_vqa_model(model, options, progress=False)
        else:
            history = "own" if self.suite == "iit-own" else "gold"
            options = RunOptions(
                model="trial", bench=self.data, out=out, history=history, batch_size=None if self.suite == "iit-server" else 3
            )
            evaluate_model(model, self.benchmark, options, progress=False)

    def _text(self, out: Path) -> RunOptions:
        tasks = ("iit_facts_capital", "iit_facts_symbol", "gsm8k", "wikitext")
        return RunOptions(model="trial", suite="text", tasks=tasks, out=out, limit=20, batch_size=3, data_root=self.data)

    def start(self, out: Path, asked: Path, rank: int = 0, of: int = 1, before: Callable[[], None] = lambda: None) -> int:
        """Fork a process that evaluates as rank `rank` of `of`; its id. `before` is called in it first."""
        asked.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        if child := os.fork():
            return child
        code = FAILED
        try:
            for name, value in {"RANK": rank, "WORLD_SIZE": of, "LOCAL_RANK": rank}.items():
                os.environ[name] = str(value)
            # tqdm's lock is of multiprocessing: forked processes share it, and one that is killed while it holds it stops the others.
            tqdm.set_lock(threading.RLock())
            before()
            self.evaluate(out, asked)
            code = DONE
        except OthersAtWork:
            code = ELSEWHERE
        except BaseException as error:  # noqa: BLE001 - a forked process must not run the parent's code
            traceback.print_exception(error)
        finally:
            sys.stderr.flush()
            os._exit(code)


def ended(child: int, wait: bool = True) -> int | None:
    """How a process ended: its exit code, or minus the signal; None if it runs."""
    pid, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def answered(out: Path) -> int:
    """How many lines are in the logs of a run."""
    count = 0
    for path in out.glob("responses*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # merged meanwhile
            count += path.read_bytes().count(b"\n")
    return count


def check_asked(asked: Path, cut: set[int]) -> int:
    """Check that nothing was asked twice, except what a killed process had in hand. Returns how many batches were asked again."""
    batches: Counter[str] = Counter()
    in_hand: Counter[str] = Counter()
    for path in asked.iterdir():  # a file per thread, which asks again only when its last answer is logged
        *logged, last = path.read_text().splitlines() or [""]
        batches.update(logged)
        (in_hand if int(path.stem.partition("-")[0]) in cut else batches)[last] += 1
    twice = [line for line, count in batches.items() if count > 1]
    assert not twice, f"{len(twice)} batches were asked twice and logged twice, e.g. {twice[0]}"
    again = {name for line in batches for name in line.split()}
    members = Counter(name for line in batches for name in line.split())
    assert max(members.values(), default=1) == 1, "a request was asked in two batches"
    return sum(count for line, count in in_hand.items() if set(line.split()) & again)


def torture(trial: Trial, kills: int, draw: random.Random) -> Counter:
    """Kill processes until `kills` have died, over as many evaluations as that takes; each must end with the same bytes."""
    counts: Counter = Counter()
    whole = trial.runs / "whole"
    assert ended(trial.start(whole, trial.runs / f"asked-whole-{trial.suite}")) == DONE
    expected = {name: (whole / name).read_bytes() for name in (trial.table, "results.json")}
    while counts["kills"] < kills:
        number = counts["evaluations"]
        out, asked = trial.runs / f"run-{number}", trial.runs / f"asked-{number}"
        cut: set[int] = set()
        while counts["kills"] < kills and not finished(out):
            _launch(trial, out, asked, draw.choice([1, 2, 2, 3, 4, 8]), cut, draw, counts, kills)
        while not finished(out):
            codes = [ended(child) for child in [trial.start(out, asked, rank, 2) for rank in range(2)]]
            assert set(codes) <= {DONE, ELSEWHERE}, f"the last evaluation did not resume: {codes}"
        counts["asked again"] += check_asked(asked, cut)
        for name, data in expected.items():
            assert (out / name).read_bytes() == data, f"{out / name} is another"
        if left_over(out):  # by a process that was killed when the others had finished
            assert ended(trial.start(out, asked)) == DONE
        assert not (left := left_over(out)), f"{left} are left over"
        assert answered(out) == answered(whole), "the merged log has lost or repeated answers"
        counts["evaluations"] += 1
        counts["killed in an evaluation, at most"] = max(counts["killed in an evaluation, at most"], len(cut))
    return counts


def left_over(out: Path) -> list[str]:
    """What killed processes have left behind."""
    return [path.name for path in out.iterdir() if path.name.startswith(".") or "rank" in path.name]


def finished(out: Path) -> bool:
    """Whether the results are there and no log of a rank is left."""
    header = out / "run.json"
    done = header.is_file() and (out / "results.json").is_file() and json.loads(header.read_text())["ended"] is not None
    return done and not list(out.glob("*rank*"))


def _launch(trial: Trial, out: Path, asked: Path, of: int, cut: set[int], draw: random.Random, counts: Counter, kills: int) -> None:
    """Start `of` processes and kill some of them, after some answers more or at any moment; some are started anew."""
    ranks = {trial.start(out, asked, rank, of): rank for rank in range(of)}
    counts[f"launches of {of}"] += 1
    while ranks and counts["kills"] < kills:
        goal, until = answered(out) + draw.randint(0, 10), time.monotonic() + draw.uniform(0, PATIENCE.get(trial.suite, 0.2))
        while ranks and answered(out) < goal and time.monotonic() < until:
            _reap(ranks)
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.01))
        _reap(ranks)
        if not ranks:
            return
        victim = draw.choice(list(ranks))
        os.kill(victim, signal.SIGKILL)
        code = ended(victim)
        rank = ranks.pop(victim)
        if code != -signal.SIGKILL:
            assert code in (DONE, ELSEWHERE), f"a process ended with {code}"
            continue
        cut.add(victim)
        counts["kills"] += 1
        if draw.random() < 0.4 and of > 1:
            ranks[trial.start(out, asked, rank, of)] = rank
            counts["restarts beside others"] += 1
        if draw.random() < 0.25:  # the machine goes down
            for child in ranks:
                os.kill(child, signal.SIGKILL)
            for child in ranks:
                if ended(child) == -signal.SIGKILL:
                    cut.add(child)
                    counts["kills"] += 1
            return
    while ranks:
        _reap(ranks, wait=True)


def _reap(ranks: dict[int, int], wait: bool = False) -> None:
    for child in list(ranks):
        code = ended(child, wait)
        if code is not None:
            del ranks[child]
            assert code in (DONE, ELSEWHERE), f"a process ended with {code}"


if __name__ == "__main__":
    suite, runs, kills, seed, data = sys.argv[1:]
    print(json.dumps(torture(Trial(suite, Path(runs), Path(data)), int(kills), random.Random(int(seed)))))
