"""`iit-bench eval`: its options are the fields of `evaluators.runs.options.RunOptions`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluators.runs.options import PARTS, RunOptions, SuiteChoice, flag, refuse_foreign, refuse_idle
from iit_bench.cli.app import AsJson, PanelCommand, Quiet, app, given_options, group, names
from iit_bench.cli.eval_all import evaluate_all_suites
from iit_bench.cli.options import options_of, record_values
from iit_bench.errors import UserError
from iit_bench.storage import anew
from iit_bench.terminal import write
from iit_bench.types import SUITES

_BESIDE_FROM = ("out", "from_run", "fresh", "processes", "quiet", "json")


@app.command("eval", cls=PanelCommand)
@options_of(RunOptions, PARTS)
def evaluate(
    context: typer.Context,
    from_run: Annotated[
        Path | None, typer.Option("--from", help="Repeat an earlier run from its run.json.", show_default=False, rich_help_panel="Run")
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes of this machine that work on the run together, each on a GPU of its own where there are some.",
            rich_help_panel="Run",
        ),
    ] = 1,
    quiet: Quiet = False,
    json: AsJson = False,
    **given: Any,
) -> None:
    """Score a model on a benchmark folder, or on tasks of lm-eval or VLMEvalKit. Interrupted at any moment, the same command resumes.

    --suite all loads the model once for all three: run folders OUT/iit, OUT/text and OUT/vqa, and one report, OUT/report/index.html.

    Example: iit-bench eval --model wings --bench bench --base runs/base-llm --out runs/wings

    Several models, separated by commas, get run folders OUT/NAME and one report, OUT/report; the benchmark is read once for all.

    Example: iit-bench eval --model base-llm,wings,llava --bench bench --base runs/base-llm --out runs

    With --until decided the run stops as soon as it is clear whether text-only abilities were lost: often after a third of the groups.

    Example: iit-bench eval --model wings --bench bench --base runs/base-llm --until decided --margin 0.02 --out runs/wings-quick

    Example: iit-bench eval --suite all --model wings --bench bench --tasks wings-text,wings-vqa --limit 500 --out all/wings
    """
    options = _options(context, from_run, given)
    if options.fresh:
        anew.note(lambda: _folders(options))
    if processes > 1:
        from evaluators.runs.checks import check_alone
        from evaluators.runs.header import command
        from iit_bench.cli.processes import run_processes

        check_alone(options.until, processes)
        switches = [*(["--fresh"] if options.fresh else []), *(["--quiet"] if quiet else []), *(["--json"] if json else [])]
        raise typer.Exit(run_processes([*shlex.split(command(options))[1:], *switches], processes))
    if len(models := names(options.model) or ()) > 1:
        if json:
            raise UserError("--json prints the results of one run; leave it out, or give one --model")
        _evaluate_models(models, options, quiet=quiet)
    elif options.suite == "all":
        evaluate_all_suites(options, progress=shows_progress(quiet), json=json)
    else:
        _evaluate_suite(options, quiet=quiet, json=json)


def _options(context: typer.Context, from_run: Path | None, given: Mapping[str, Any]) -> RunOptions:
    if from_run:
        from evaluators.runs.header import load_options

        _refuse_beside_from(context)
        return load_options(from_run, out=given["out"], fresh=given["fresh"])
    refuse_foreign(given["suite"], given_options(context))
    options = RunOptions(**record_values(RunOptions, given))
    refuse_idle(options, given_options(context))
    return options


def _folders(options: RunOptions) -> list[Path]:
    """The run folders of a command."""
    if len(models := names(options.model) or ()) > 1:
        from iit_bench.workflows.several import folder_name

        return [options.out / folder_name(model) for model in models]
    return [options.out / suite for suite in SUITES] if options.suite == "all" else [options.out]


def check_words(words: Sequence[str], processes: int) -> RunOptions:
    """Refuse a command line of `iit-bench eval` that several processes would refuse, before any of them is started; return its options.

    Args:
        words: the command line, without `iit-bench eval`.
        processes: that are to work on the run.

    Raises:
        UserError: bad options.
        typer.TyperException: words that are no options.
    """
    from evaluators.runs.checks import check_alone

    command = group().get_command(None, "eval")
    assert command is not None
    context = command.make_context("eval", list(words))
    given = dict(context.params)
    from_run = given.pop("from_run")
    options = _options(context, Path(from_run) if from_run else None, given)
    check_alone(options.until, processes)
    return options


def _evaluate_models(models: tuple[str, ...], options: RunOptions, *, quiet: bool) -> None:
    """Run several models on one benchmark, and print where the report is."""
    from iit_bench.cli.watch import report_outcome
    from iit_bench.workflows.several import evaluate_models

    if options.suite != "iit":
        raise UserError(f"several models at once run suite iit; give one --model for --suite {options.suite}")
    report_outcome(evaluate_models(models, options, progress=not quiet), options.allow_errors)


def _evaluate_suite(options: RunOptions, *, quiet: bool, json: bool) -> None:
    """Run one suite and print its figures.

    Raises:
        typer.Exit: more items failed than are allowed, or some for reasons of the machine.
    """
    from evaluators.runs.marks import unsealed_at, unsealed_note
    from evaluators.runs.summary import exceeds, left_out_text, server_text, summary_json, summary_text, too_many_failed
    from iit_bench.progress import notice
    from iit_bench.storage.runs import load_errors, load_run_header

    results = _evaluator(options.suite)(options, progress=shows_progress(quiet))
    errors, marked = load_errors(options.out), unsealed_at(options.out)
    name = options.name or options.out.absolute().name
    write(summary_json(results) if json else summary_text(name, results, errors, marked), flush=True, json=json)
    if json and marked:
        notice(unsealed_note(marked))
    run = load_run_header(options.out)
    for line in filter(None, (left_out_text(run), server_text(run))):
        write(line, file=sys.stderr)
    if results.advice:
        notice(results.advice)
    whole = _print_arms(options, json=json) if options.arms and results.complete else True
    if why := too_many_failed(results, errors, options.allow_errors):
        notice(why)
    if exceeds(results, options.allow_errors) or not whole:
        raise typer.Exit(1)


def _print_arms(options: RunOptions, *, json: bool) -> bool:
    """Print what the arms of a run cost, after its figures; with `json`, which prints one run's results, nothing.

    Returns:
        Whether every item of every arm is finished, and no more failed than are allowed.
    """
    from evaluators.arms.figures import arms_of
    from evaluators.arms.table import as_table
    from evaluators.runs.summary import exceeds
    from iit_bench.storage.runs import load_run

    found = arms_of(load_run(options.out, "iit"))
    if not json:
        write("\n" + as_table(found, options.name or options.out.absolute().name), end="", flush=True)
    return not any(one.run is None or exceeds(one.run.results, options.allow_errors) for one in found)


def shows_progress(quiet: bool) -> bool:
    """Whether this process shows bars: of several only the first, since each counts what all have done.

    Raises:
        UserError: the launcher's variables make no sense.
    """
    from iit_bench.ranks import this_rank

    return not quiet and this_rank().number == 0


def _evaluator(suite: SuiteChoice) -> Callable[..., Any]:
    if suite == "text":
        from evaluators.text.evaluate import evaluate_text

        return evaluate_text
    if suite == "vqa":
        from evaluators.vqa.evaluate import evaluate_vqa

        return evaluate_vqa
    from evaluators.iit.evaluate import evaluate as evaluate_iit

    return evaluate_iit


def _refuse_beside_from(context: typer.Context) -> None:
    """Refuse options that would change the run that --from repeats."""
    if given := [flag(name) for name in given_options(context) if name not in _BESIDE_FROM]:
        raise UserError(f"--from repeats a run as it was; leave out {', '.join(given)}, or leave out --from and give every option")
