"""Observe one model on one benchmark folder: a pass per dialogue with an image, and its curves into one table."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluators.attention.options import WITHOUT, AttentionOptions, options_of_run
from evaluators.attention.table import FILE, Observed, ObservedDialogue, differs, load_observed, save_observed
from evaluators.iit.chosen import choose_dialogues, style_of
from evaluators.iit.turns import Asking, Rendering, request
from evaluators.runs.header import PACKAGES, version
from evaluators.runs.options import flag
from iit_bench.engine.faults import FirstItems, guarded
from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import GenerateRequest, Model
from iit_bench.models.load import load_model
from iit_bench.models.modality import text_only
from iit_bench.progress import bar
from iit_bench.storage.atomic import check_writable
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.folder_locks import holding
from iit_bench.storage.other_kinds import refuse_other_kinds
from iit_bench.storage.runs import load_run_header
from iit_bench.types import Dialogue, Style

NO_IMAGE, OVERFLOW = "no image in the dialogue", "context overflow"


def observe_run(run: Path, progress: bool = True, **given: Any) -> Observed:
    """Observe the model of a run folder, asked as in the run; `given` are options of `BESIDE_RUN`.

    Raises:
        UserError: as `observe_attention`, or the folder is no such run.
    """
    return observe_attention(options_of_run(run, given), progress)


def observe_attention(options: AttentionOptions, progress: bool = True) -> Observed:
    """Observe a model, and write the table; an interrupted observation writes nothing.

    Raises:
        UserError: bad options, an unusable benchmark or model, one whose attention cannot be observed, or no dialogue with an image.
    """
    assert options.bench is not None
    run, out = options.as_run(), target(options)
    benchmark = load_benchmark(options.bench)
    style = style_of(run, benchmark)
    benchmark.chosen_tiers(options.tiers)  # refuses one that the benchmark lacks
    known: dict[str, Any] = {
        "benchmark": {name: benchmark.manifest[name] for name in ("name", "rows_sha256")},
        "style": style,
        "system_prompt": options.system_prompt,
    }
    _refuse_beside_another(out, known)
    _refuse_to_lose(out, options)
    _observable(benchmark, options, style)
    check_writable(out)
    if why := text_only(options.model, run.model_options):
        raise _takes_no_images(options.model, why)
    with holding(out, beside=True):
        return _observe(options, benchmark, out, known, progress)


def _observe(options: AttentionOptions, benchmark: Benchmark, out: Path, known: Mapping[str, Any], progress: bool) -> Observed:
    """Observe the model and write the table, which no other process writes meanwhile."""
    model = load_model(options.model, options.as_run().model_options, progress=progress)
    refuse_unobservable(model)
    about = {"name": options.name or options.model, "model": dataclasses.asdict(model.info), **known}
    _refuse_beside_another(out, about)
    threads = _threads(options.threads)
    try:
        rows, without = observe_dialogues(model, benchmark, options, progress)
    finally:
        _threads(threads)
    observed = Observed(
        about
        | {
            "tiers": [tier for tier in benchmark.chosen_tiers(options.tiers) if "V" in tier],
            "limit": options.limit,
            "not_observed": without,
            "versions": {name: version(name) for name in PACKAGES},
            "command": command(options),
        },
        rows,
    )
    save_observed(out, observed)
    return observed


def failed(observed: Observed) -> int:
    """How many dialogues with an image could not be observed."""
    return sum(n for reason, n in observed.about["not_observed"].items() if reason != NO_IMAGE)


def target(options: AttentionOptions) -> Path:
    """The file to write.

    Raises:
        UserError: another file is there, or --out is a folder of another kind than a run's.
    """
    assert options.out is not None
    out = options.out
    if out.suffix != ".parquet" or out.is_dir():
        refuse_other_kinds(out, "no observation goes", but=("run",))
        out /= FILE
    if out.exists():
        load_observed(out)  # only such a table is replaced
    return out


def _refuse_beside_another(out: Path, about: Mapping[str, Any]) -> None:
    """Refuse to write beside a run what is no observation of it; `about` may lack the model, while it is not loaded."""
    if not (out.parent / "run.json").is_file():
        return
    run = load_run_header(out.parent)
    if different := differs({"model": run["model"], **about}, run):
        raise UserError(f"run {str(out.parent)!r} is of another {different} than what is to be observed; choose another --out")


def _refuse_to_lose(out: Path, options: AttentionOptions) -> None:
    """Refuse to replace an observation by one of fewer groups or tiers."""
    if not out.exists():
        return
    before = load_observed(out).about
    if options.limit is not None and (before.get("limit") is None or before["limit"] > options.limit):
        raise UserError(f"{str(out)!r} holds more groups than --limit {options.limit}; remove it first, or choose another --out")
    chosen = [tier for tier in options.tiers or () if "V" in tier]
    if chosen and (lost := [tier for tier in before.get("tiers", ()) if tier not in chosen]):
        raise UserError(f"{str(out)!r} holds tiers that would be lost ({', '.join(lost)}); remove it first, or choose another --out")


def _takes_no_images(model: str, why: str) -> UserError:
    return UserError(f"model {model!r} takes no images ({why}), so no text is before or after one; name another model")


def refuse_unobservable(model: Model) -> None:
    """Refuse a model that takes no images, or whose passes are made elsewhere.

    Raises:
        UserError: it is one.
    """
    if not model.capabilities.takes_images:
        raise _takes_no_images(model.info.name, model.capabilities.why_not.get("takes_images", ""))
    if not model.capabilities.shows_attention:
        raise UserError(
            f"model {model.info.name!r} shows no attention: it is no model that transformers runs in this process; use hf:CHECKPOINT, "
            "wings or llava"
        )


def observe_dialogues(
    model: Model, benchmark: Benchmark, options: AttentionOptions, progress: bool
) -> tuple[list[ObservedDialogue], dict[str, int]]:
    """A row per dialogue with an image, in the benchmark's order; and reason → dialogues without one.

    Raises:
        UserError: no dialogue has an image, none could be observed, or the model's attention cannot be.
    """
    style = style_of(options.as_run(), benchmark)
    dialogues, others = _observable(benchmark, options, style, takes_histories=model.capabilities.takes_histories)
    without: Counter[str] = Counter({NO_IMAGE: others})
    asking = Asking(scoring="generate", style=style, system_prompt=options.system_prompt, max_new_tokens=1)
    rendering, rows, first = Rendering(benchmark.questions), [], FirstItems()
    with bar(f"{model.info.name}: observing attention", len(dialogues), progress) as advance:
        for dialogue in dialogues:
            course = rendering.course(dialogue)
            asked = request(course, len(course.questions) - 1, asking)
            assert isinstance(asked, GenerateRequest)
            try:
                curves = guarded(lambda asked=asked: _observed(model, asked))  # type: ignore[misc]
                rows.append(ObservedDialogue.of(dialogue, course.questions, curves))
                first.answered()
            except ItemError as error:
                without[error.reason] += 1
                first.failed(error)
            advance(1)
    if not rows:
        raise UserError(f"no dialogue could be observed ({', '.join(f'{reason}: {n}' for reason, n in without.items() if n)})")
    return rows, {reason: n for reason, n in without.items() if n}


def _observable(
    benchmark: Benchmark, options: AttentionOptions, style: Style, *, takes_histories: bool = True
) -> tuple[list[Dialogue], int]:
    """The chosen dialogues with an image, and how many there are without one.

    Raises:
        UserError: unknown tiers, or no such dialogue.
    """
    plan = choose_dialogues(benchmark, options.tiers, options.limit, style=style, accepts_images=True, takes_histories=takes_histories)
    dialogues = [dialogue for dialogue in plan.dialogues if "V" in dialogue.tier]
    if not dialogues:
        raise UserError("no chosen dialogue has an image; name a tier with V in --tiers, or raise --limit")
    return dialogues, len(plan.dialogues) - len(dialogues)


def _observed(model: Model, asked: GenerateRequest) -> Any:
    limit, length = model.info.max_context, model.request_tokens(asked)
    if limit is not None and length > limit:
        raise ItemError(OVERFLOW, f"{length} tokens, the model takes {limit}")
    return model.observe_attention(asked)


def command(options: AttentionOptions) -> str:
    """The command line that repeats the observation: every option that is not at its default."""
    words = ["iit-bench", "attention"]
    for one in dataclasses.fields(options):
        value = getattr(options, one.name)
        if one.name in WITHOUT or value == one.default:
            continue
        words += [flag(one.name)] if value is True else [flag(one.name), ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


def _threads(wanted: int | None) -> int | None:
    """Set PyTorch's threads, where a number is wanted, and return what they were."""
    if wanted is None:
        return None
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    return before
