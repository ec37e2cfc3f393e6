"""A run of suite iit out of the log of inspect that `iit-bench export --to inspect` wrote: predictions, prompts, run.json and figures.

Figures are computed anew from the samples: scores may be edited in inspect. What hangs on another run (forgetting) is taken from the log
only where the computed figures are those that were stored with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.iit import forgetting
from evaluators.iit.results import summarise
from iit_bench.storage.runs import IitRun, Run
from iit_bench.storage.schema import check_run
from iit_bench.storage.tables import decode
from iit_bench.types import Prediction, Results, SeenPrompt

if TYPE_CHECKING:
    from inspect_ai.log import EvalSample

FIX = "give the log as it was written"
_CHANGED = "scores in the log were changed after it was written"


def iit_run(path: Path, kept: Mapping[str, Any], samples: Iterable[EvalSample]) -> IitRun:
    """The run.

    Args:
        path: the log.
        kept: what the log's metadata hold of the run: run.json, results.json, lines of errors.jsonl.
        samples: in any order.

    Raises:
        UserError: a field of the run.json has another type.
        KeyError, TypeError, ValueError: something is missing or is no value of its kind.
    """
    numbered, prompts = [], []
    for sample in samples:
        prediction = _prediction(sample)
        numbered.append((int(sample.metadata["number"]), prediction))
        if "prompt" in sample.metadata:
            prompts.append((numbered[-1][0], _prompt(prediction, sample.metadata)))
    predictions = [prediction for _, prediction in sorted(numbered, key=lambda one: one[0])]
    seen = tuple(prompt for _, prompt in sorted(prompts, key=lambda one: one[0]))
    header = check_run(kept["run"], f"{str(path)!r}, in its metadata the run.json", FIX)
    stored: Results = decode(Results, kept["results"])
    results = _results(predictions, header, stored)
    errors = tuple(dict(line) for line in kept["errors"])
    return Run(path=path, run=header, results=results, errors=errors, foreign_predictions=predictions, foreign_prompts=seen)


def _prediction(sample: EvalSample) -> Prediction:
    metadata = sample.metadata
    values: dict[str, Any] = {field.name: metadata[field.name] for field in dataclasses.fields(Prediction) if field.name in metadata}
    values |= {"choices": list(sample.choices or ()), "reply": "", "prompt_tokens": 0, "reply_tokens": 0}
    if sample.output.choices:
        values |= {"reply": sample.output.completion, "reasoning": _reasoning(sample)}
    if (usage := sample.output.usage) is not None:
        values |= {"prompt_tokens": usage.input_tokens, "reply_tokens": usage.output_tokens}
    values["logprobs"] = [float(value) for value in values["logprobs"]]
    made: Prediction = decode(Prediction, values)
    return dataclasses.replace(made, outcome=_outcome(sample, made))


def _outcome(sample: EvalSample, prediction: Prediction) -> Any:
    """The outcome of the sample's score, which may have been edited in inspect; that of an untouched one is its own."""
    score = (sample.scores or {}).get("acc")
    if score is None or not score.history:
        return prediction.outcome
    return "correct" if score.value == "C" else "unparsed" if score.value == "N" else "wrong"


def _reasoning(sample: EvalSample) -> str:
    content = sample.output.choices[0].message.content
    return "" if isinstance(content, str) else "".join(part.reasoning for part in content if part.type == "reasoning")


def _prompt(prediction: Prediction, metadata: Mapping[str, Any]) -> SeenPrompt:
    text = str(metadata["prompt"])
    places = tuple(int(place) for place in metadata["image_places"])
    return SeenPrompt(prediction.dialogue, prediction.position, text, places, hashlib.sha256(text.encode()).hexdigest())


def _results(predictions: list[Prediction], header: Mapping[str, Any], stored: Results) -> Results:
    answered = {one.tier for one in predictions if one.is_target}
    unavailable = {result.tier: result.acc.note for result in stored.tiers if result.tier not in answered}
    asked_all = set(header["tiers"]) == set(header["benchmark"]["tiers"])
    results = summarise(predictions, unavailable, stored.complete, None if asked_all else header["benchmark"]["tiers"])
    results = dataclasses.replace(results, advice=stored.advice, decision=stored.decision)
    same = dataclasses.replace(results, forgetting=stored.forgetting) == stored
    known = stored.forgetting if same or stored.forgetting is None else forgetting.unknown(stored.forgetting, _CHANGED)
    return dataclasses.replace(results, forgetting=known)
