"""What can be refused of a run before its model is loaded: by its options, its benchmark, its base and the folder that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.arms.names import ALL, check_any_askable, check_askable, parse_arms, refusals
from evaluators.iit.chosen import choose_dialogues, style_of
from evaluators.iit.comparison import check_comparable
from evaluators.iit.deciding import narrowed, where_it_stops
from evaluators.iit.forgetting import check_text_tiers
from evaluators.runs.header import check_same_run
from evaluators.runs.options import RunOptions
from evaluators.runs.session import header_there
from iit_bench.asking import check_letters
from iit_bench.errors import UserError
from iit_bench.models.modality import text_only
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import IitRun, folder_label, load_run
from iit_bench.types import Style


def check_before_loading(options: RunOptions, benchmark: Benchmark) -> None:
    """Refuse a run that no model could be asked, or that its folder does not take.

    Raises:
        UserError: as `check_asked`; another run or other files in the folder.
    """
    known = check_asked(options, benchmark)
    before = header_there(options.out)  # refuses a foreign folder, also with --fresh
    if before is not None and not options.fresh and before.get("suite") == "iit":
        same = {"arguments": before["arguments"] | {"threads": options.threads}, "model": before["model"] | {"blind": options.blind}}
        check_same_run(options.out, before, before | known | same)


def check_asked(options: RunOptions, benchmark: Benchmark) -> dict[str, Any]:
    """Refuse a run that no model could be asked: what is only known of a loaded model is left to `evaluate_model`.

    Args:
        options: of suite iit.
        benchmark: the folder that they name.

    Returns:
        The fields of the run's run.json that do not depend on its model.

    Raises:
        UserError: unknown tiers, nothing to ask, an arm that cannot be asked, or a base that cannot be compared.
    """
    options = narrowed(options, benchmark)
    style = style_of(options, benchmark)
    sees = options.blind or not text_only(options.model, options.model_options)  # as far as that is known
    chosen = choose_dialogues(benchmark, options.tiers, options.limit, accepts_images=sees, style=style, letters=False)
    if style == "letters":  # other dialogues may not be asked of every model
        check_letters(benchmark.questions[dialogue.target] for dialogue in chosen.dialogues if dialogue.tier == "T")
    if options.reasoning_tokens and options.scoring == "loglikelihood":
        refuse_reasoning(options.reasoning_tokens)
    if options.arms:
        run = {"model": {"blind": options.blind, "accepts_images": sees}, "style": style, "tiers": chosen.tiers}
        _check_arms(parse_arms(options.arms), run, options)
    base = load_base(options)
    known = _known(options, benchmark, style)
    if base is not None:
        name = options.name or options.out.absolute().name
        check_comparable({"name": name, "scoring": base.run["scoring"], "model": {}, **known}, base.run)
        check_text_tiers(chosen.tiers, base.run["tiers"], folder_label(base.path))
    return known | where_it_stops(options, base)


def _check_arms(names: Sequence[str], run: Mapping[str, Any], options: RunOptions) -> None:
    """Refuse arms that no model, or not this one, can be asked in such a run; of all arms, where that is so of each."""
    if ALL not in (options.arms or ()):
        check_askable(names, run, options.model, None)
    check_any_askable(refusals(names, run, options.model, None), names, f"model {options.model!r} in such a run")


def _known(options: RunOptions, benchmark: Benchmark, style: Style) -> dict[str, Any]:
    asked: dict[str, Any] = {} if options.scoring == "auto" else {"scoring": options.scoring}
    return asked | {
        "benchmark": {"rows_sha256": benchmark.rows_sha256},
        "style": style,
        "history": options.history,
        "limit": options.limit,
        "system_prompt": options.system_prompt,
        "max_new_tokens": options.max_new_tokens,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "processor_kwargs": options.named_values("processor_kwargs"),
    }


def load_base(options: RunOptions) -> IitRun | None:
    """The run to measure forgetting against, if there is one."""
    return None if options.base is None else load_run(options.base, "iit")


def refuse_reasoning(tokens: int) -> None:
    """Refuse a budget for reasoning where nothing is generated.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"--reasoning-tokens {tokens} has no effect under scoring loglikelihood, where nothing is generated; "
        "leave it out, or use --scoring generate"
    )


def comparable_base(options: RunOptions, described: Mapping[str, Any]) -> IitRun | None:
    """The run to measure forgetting against, if any; one that cannot be compared is refused before the model is asked anything."""
    base = load_base(options)
    if base is not None:
        check_comparable(described, base.run)
        check_text_tiers(described["tiers"], base.run["tiers"], folder_label(base.path))
    return base
