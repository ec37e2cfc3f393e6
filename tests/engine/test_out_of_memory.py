"""Too little memory for a batch: its halves are answered, and whoever goes on with the run splits it likewise.

The model's answers betray in which company they were computed (`conftest.CompanyModel`).
"""

from __future__ import annotations

import pytest
import torch

from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import answer
from iit_bench.engine.shares import SharedLog
from iit_bench.models.contract import ScoreResult
from iit_bench.ranks import Rank

TEXTS = [f"{letter * (3 + i % 4)}" for i, letter in enumerate("abcdefghijklmnop")]
LIMITS = BatchLimits(8, 10**9)


def above(rows: int):
    return lambda texts: torch.OutOfMemoryError("CUDA out of memory") if len(texts) > rows else None


@pytest.fixture
def run(tmp_path):
    def call(model, requests):
        with ResponseLog(tmp_path / "responses.jsonl") as log:
            return answer(model, requests, log, LIMITS)

    return call


@pytest.mark.parametrize("killed_after", [2, 3, 4, 6, 9, 12, 20])
@pytest.mark.parametrize("memory_later", [3, 8])
def test_a_resumed_run_splits_as_the_first_process_did(run, tmp_path, company_model, ask, killed_after, memory_later):
    """With more memory the whole batch fits, but its answers would be others."""
    requests = [ask(text) for text in TEXTS]
    whole = run(company_model(above(3)), requests)
    assert all(isinstance(one, ScoreResult) for one in whole.answers)
    log = tmp_path / "responses.jsonl"
    before = log.read_bytes()
    lines = before.splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:killed_after]))
    model = company_model(above(memory_later))
    resumed = run(model, requests)
    later_splits = [line for line in lines[killed_after:] if b'"split"' in line]
    if memory_later == 3 or not later_splits:
        assert resumed.answers[:] == whole.answers[:]
        assert sorted(log.read_bytes().splitlines()) == sorted(before.splitlines())
    assert all(isinstance(one, ScoreResult) for one in resumed.answers)
    known = sum(b'"split"' in line for line in lines[:killed_after])
    assert sum(len(batch) > 3 for batch in model.batches) <= 6 - known  # what is known not to fit is not tried again


def test_halves_that_are_answered_are_not_computed_again(run, tmp_path, company_model, ask):
    requests = [ask(text) for text in TEXTS]
    run(company_model(above(4)), requests)
    log = tmp_path / "responses.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-2]))
    model = company_model()
    run(model, requests)
    assert [len(batch) for batch in model.batches] == [4]


def test_records_of_splits_outlive_the_log_of_the_process_that_made_them(tmp_path, company_model, ask):
    """One of several processes had too little memory; the next session works alone and has enough."""
    requests = [ask(text) for text in TEXTS]
    rank = Rank(number=0, of=2)
    with SharedLog(tmp_path, rank, lambda log, only: "run") as log:
        first = answer(company_model(above(4)), requests, log, LIMITS)
    for path in tmp_path.glob("responses*.jsonl"):  # as if it had been killed before it had answers
        path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(keepends=True) if b'"score"' not in line))
    model = company_model()
    with SharedLog(tmp_path, rank, lambda log, only: "run") as log:
        assert len(log.splits) == 2
        assert answer(model, requests, log, LIMITS).answers[:] == first.answers[:]
    assert [len(batch) for batch in model.batches] == [4] * 4


def test_a_single_request_that_does_not_fit_leaves_the_others_answered(run, company_model, ask):
    model = company_model(lambda texts: torch.OutOfMemoryError("CUDA out of memory") if TEXTS[3] in texts else None)
    found = run(model, [ask(text) for text in TEXTS])
    failed = [text for text, one in zip(TEXTS, found.answers, strict=True) if not isinstance(one, ScoreResult)]
    assert failed == [TEXTS[3]]
