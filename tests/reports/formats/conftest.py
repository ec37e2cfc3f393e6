"""Hostile texts, as models and data sets may write them."""

from __future__ import annotations

import dataclasses

import pytest

HOSTILE = (
    '=HYPERLINK("http://x","y")',
    "<script>alert(1)</script>|a|[b](javascript:c)",
    "\\input{secret} 100% of $x_1$ & #2 ~^",
    "[9cm] *bold* _i_ `code` @all http://example.org WWW.example.org",
    "a\u202eb\x00c\u2028d",
)


@pytest.fixture
def hostile() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture(scope="session")
def wings_run(bench, tmp_path_factory):
    """A real run over all tiers, of a model that takes images."""
    from evaluators.iit.evaluate import evaluate
    from evaluators.runs.options import RunOptions

    out = tmp_path_factory.mktemp("runs") / "wings"
    evaluate(RunOptions(model="wings", bench=bench.path, out=out, device="cpu", limit=4), progress=False)
    return out


@pytest.fixture(scope="session")
def odd_run(bench, tmp_path_factory):
    """A run in which everything occurs: own history, generated and reasoned replies, hostile words, every outcome."""
    import itertools

    from evaluators.iit.evaluate import evaluate
    from evaluators.iit.results import summarise
    from evaluators.runs.options import RunOptions
    from iit_bench.storage.runs import load_run, load_run_header, save_run_header
    from iit_bench.types import OUTCOMES
    from tests.resealed import save_run_outcome

    out, system = tmp_path_factory.mktemp("runs") / "odd", HOSTILE[4].replace("\x00", "")
    evaluate(RunOptions(model="random", bench=bench.path, out=out, history="own", system_prompt=system), progress=False)
    run, outcomes, words = load_run(out, "iit"), itertools.cycle(OUTCOMES), itertools.cycle((*HOSTILE, "x" * 1_000_000, ""))
    rows, errors = [], []
    for number, one in enumerate(run.predictions):
        outcome = next(outcomes)
        chosen = {"correct": one.answer, "wrong": (one.answer + 1) % len(one.choices)}.get(outcome, -1)
        changes = {"outcome": outcome, "logprobs": (), "choice_tokens": (), "reply": "", "prompt_tokens": 0, "reply_tokens": 0}
        changes |= dict.fromkeys(("chosen", "chosen_norm", "chosen_bytes"), chosen)
        if outcome != "error":
            changes |= {"reply": next(words) if number < 20 else f"reply {number}", "reasoning": "so" * (number % 3)}
            changes |= {"prompt_tokens": 7, "reply_tokens": 5, "reasoning_tokens": number % 3, "evidence": "declared"}
            changes |= {"finish_reason": "length"}
        else:
            line = {"dialogue": one.dialogue, "position": one.position, "tier": one.tier, "question": one.question}
            errors.append(line | {"kind": "item", "reason": "context overflow", "detail": HOSTILE[1]})
        rows.append(dataclasses.replace(one, **changes))
    header = {name: value for name, value in load_run_header(out).items() if name not in ("format", "version")}
    save_run_header(out, header | {"scoring": "generate"})
    save_run_outcome(out, rows, summarise(rows, {}, complete=True), errors)
    return out
