"""The command line: parses, calls one function, prints. No logic, and no room is imported before its command runs."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from iit_bench.errors import UserError

INTERRUPTED = 130

app = typer.Typer(
    name="iit-bench",
    help="Evaluate what multimodal LLMs forget: build the Interleaved Image-Text benchmark, score models on it, look at the leaderboard.",
    epilog="Start with `iit-bench demo`. Every command explains itself: `iit-bench eval --help`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich for boxes around the help would double its time
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def main(arguments: list[str] | None = None) -> int:
    """Entry point. Exit codes: 0 the work is whole, 1 it is not (items failed), 2 bad input, 70 a bug, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = app(words, prog_name="iit-bench", standalone_mode=False)
    except UserError as error:
        if debug:
            raise
        return _complain(str(error), 2)
    except typer.TyperException as error:  # wrong option, missing argument
        return _complain(f"{error.format_message()} (see `iit-bench {_command(words)}--help`)", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:  # the last resort: a bug, too, is told in one sentence
        if debug:
            raise
        return _complain(
            f"internal error, {type(error).__name__}: {error}; please report it with the output of the same command and --debug", 70
        )
    if code == INTERRUPTED:  # typer itself turns Ctrl-C into this code, without a word
        return _complain(_how_to_go_on(words), INTERRUPTED)
    return code if isinstance(code, int) else 0


def _command(words: list[str]) -> str:
    """The command among the words, for a hint at its help."""
    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    return words[0] + " " if words and words[0] in known else ""


def _how_to_go_on(words: list[str]) -> str:
    """After Ctrl-C: evaluations and trainings go on where they were, anything else left nothing behind."""
    if words and words[0] in ("eval", "demo", "train"):
        return (
            f"interrupted; what was done is kept, go on with: {shlex.join(['iit-bench', *(word for word in words if word != '--fresh')])}"
        )
    return f"interrupted, nothing was written; start again with: {shlex.join(['iit-bench', *words])}"


def _complain(text: str, code: int) -> int:
    print(f"iit-bench: {text}", file=sys.stderr)
    return code


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text is not None else None


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        from iit_bench import __version__

        print(f"iit-bench {__version__}")
        raise typer.Exit


# ---------------------------------------------------------------- demo


@app.command(short_help="Build, score and report the lab: offline, in minutes.")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for bench/, runs/ and report/.")] = Path("demo"),
    limit: Annotated[int | None, typer.Option("--limit", help="Evaluate N groups only; default all.")] = None,
    quiet: Quiet = False,
) -> None:
    """Build the lab benchmark, score the bundled models and baselines, write the leaderboard: offline, on a CPU, in minutes."""
    from iit_bench.demo import demo as run_demo

    page = run_demo(out, limit=limit, progress=not quiet)
    print(f"Leaderboard: {page}")


# ---------------------------------------------------------------- build


@app.command()
def build(
    out: Out,
    preset: Annotated[str, typer.Option(help="Sources by name of a preset: `iit-bench list presets`.")] = "lab",
    text: Annotated[str | None, typer.Option(help="Text sources instead of the preset's, comma-separated: facts, lm-eval:TASK.")] = None,
    visual: Annotated[str | None, typer.Option(help="Visual sources instead of the preset's: easyvqa, vlmeval:NAME.")] = None,
    tiers: Annotated[str, typer.Option(help="full (14 patterns of up to 3 turns), paper (6), or a list such as T,TV,VVT.")] = "full",
    size: Annotated[int | None, typer.Option(help="Targets per modality; default: the preset's.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of sampling and shuffling.")] = 0,
    match: Annotated[str, typer.Option(help="History by meaning: tfidf, none, or a text encoder's path or Hub id.")] = "tfidf",
    connector: Annotated[str, typer.Option(help="Transition sentence between turns: none or template.")] = "none",
    data_root: Annotated[
        Path | None, typer.Option(help="Folder with local snapshots, read instead of the Hub.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a benchmark that is there already.")] = False,
) -> None:
    """Build a benchmark folder from text and visual sources.

    Example: iit-bench build --text lm-eval:openbookqa --visual vlmeval:AI2D_TEST --tiers T,TV,V --size 500 --out bench
    """
    from builders.build import BuildOptions, summary
    from builders.build import build as build_benchmark
    from iit_bench.folders import load_manifest

    options = BuildOptions(
        out=out,
        preset=preset,
        text=_names(text),
        visual=_names(visual),
        tiers=tiers,
        size=size,
        seed=seed,
        match=match,
        connector=connector,
        data_root=data_root,
        overwrite=overwrite,
    )
    print(summary(load_manifest(build_benchmark(options))))


# ---------------------------------------------------------------- eval


@app.command("eval", short_help="Score a model; killed, the same command goes on.")
def evaluate(
    context: typer.Context,
    out: Out,
    model: Annotated[str | None, typer.Option(help="A name of `iit-bench list models`, or hf:PATH_OR_HUB_ID.", show_default=False)] = None,
    bench: Annotated[Path | None, typer.Option(help="Benchmark folder, made by `iit-bench build`.", show_default=False)] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Other weights for this family: folder or Hub id.", show_default=False)] = None,
    suite: Annotated[
        Literal["iit", "text", "vqa"], typer.Option(help="IIT dialogues, lm-eval's tasks, or VLMEvalKit's data sets.")
    ] = "iit",
    tasks: Annotated[
        str | None, typer.Option(help="text, vqa: tasks or data sets, comma-separated; wings-text, wings-vqa.", show_default=False)
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="text, vqa: folder with local snapshots, read instead of the Hub.", show_default=False)
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(help="text: examples before a question; default: each task's own.", show_default=False)
    ] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template/--no-apply-chat-template", help="text: ask in the model's chat format.")
    ] = False,
    gen_kwargs: Annotated[str, typer.Option(help="text: lm-eval's settings of generation, e.g. temperature=0.7.")] = "",
    include_path: Annotated[Path | None, typer.Option(help="text: folder with tasks in lm-eval's format.", show_default=False)] = None,
    confirm_run_unsafe_code: Annotated[
        bool, typer.Option("--confirm-run-unsafe-code", help="text: run the programs that the model writes (MBPP).")
    ] = False,
    judge: Annotated[str, typer.Option(help="vqa: exact_matching, or a judge model of VLMEvalKit by name.")] = "exact_matching",
    blind: Annotated[bool, typer.Option("--blind", help="Remove all images: what do the words alone give away?")] = False,
    tiers: Annotated[str | None, typer.Option(help="Tiers to run, comma-separated; default all.", show_default=False)] = None,
    scoring: Annotated[Literal["loglikelihood", "generate"], typer.Option(help="Score every choice, or read a greedy reply.")] = (
        "loglikelihood"
    ),
    style: Annotated[
        Literal["cloze", "options", "letters"] | None,
        typer.Option(help="How choices are shown; default: the benchmark's.", show_default=False),
    ] = None,
    history: Annotated[Literal["gold", "own"], typer.Option(help="Earlier replies: the right ones, or the model's own.")] = "gold",
    limit: Annotated[int | None, typer.Option(help="Evaluate N whole groups, or N items of each task.", show_default=False)] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Length of a generated reply; default: 32 in iit, else the task's.", show_default=False)
    ] = None,
    system_prompt: Annotated[str, typer.Option(help="First message of every chat.")] = "",
    base: Annotated[
        Path | None, typer.Option(help="Run folder of the base LLM, to measure forgetting against.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="Requests per batch, or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of models that draw.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name in reports; default: the folder's.", show_default=False)] = None,
    from_run: Annotated[Path | None, typer.Option("--from", help="Repeat an earlier run from its run.json.", show_default=False)] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Start over, or go on with what the folder holds.")] = False,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Score a model on a benchmark folder, or on tasks of lm-eval or VLMEvalKit. Killed at any moment, the same command goes on.

    Example: iit-bench eval --model wings --bench bench --base runs/base-llm --out runs/wings
    """
    given = {name: value for name, value in locals().items() if name != "context"}
    from evaluators.provenance import EvalOptions
    from evaluators.suites import SuiteOptions, load_any_options
    from evaluators.summary import summary_json, summary_text

    if from_run:
        _refuse_beside_from(context)
        options: EvalOptions | SuiteOptions = dataclasses.replace(load_any_options(from_run, out), fresh=fresh)
    else:
        given |= {"tiers": _names(tiers), "tasks": _names(tasks), "batch_size": _batch_size(batch_size)}
        for needed in ("model", "bench" if suite == "iit" else "tasks"):
            _required(given[needed], f"--{needed}")
        options = _chosen(EvalOptions if suite == "iit" else SuiteOptions, given, context)
    results = _evaluator(options.suite)(options, progress=not quiet)
    print(summary_json(results) if json else summary_text(options.name or out.name, results))
    if not results.complete:
        raise typer.Exit(1)


def _chosen(kind: Any, given: dict[str, Any], context: typer.Context) -> Any:
    """Options of a suite from the words of the command line; what is not given keeps the suite's default, what it has not is refused."""
    known = {field.name for field in dataclasses.fields(kind)}
    if foreign := [name for name in _on_the_command_line(context) if name not in (*known, "quiet", "json")]:
        flags = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise UserError(f"--suite {given['suite']} has no option {flags}; leave it out")
    return kind(**{name: value for name, value in given.items() if name in known and value is not None})


def _evaluator(suite: str) -> Any:
    if suite == "text":
        from evaluators.text import evaluate_text

        return evaluate_text
    if suite == "vqa":
        from evaluators.vqa import evaluate_vqa

        return evaluate_vqa
    from evaluators.iit import evaluate as evaluate_iit

    return evaluate_iit


def _on_the_command_line(context: typer.Context) -> list[str]:
    return [name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"]  # type: ignore[union-attr]


def _required(value: Any, option: str) -> Any:
    if value is None:
        raise UserError(f"{option} is missing; give it, or repeat an earlier run with --from RUN/run.json")
    return value


def _refuse_beside_from(context: typer.Context) -> None:
    """A repeated run is the earlier one: an option that would change it is not dropped in silence."""
    harmless = ("out", "from_run", "fresh", "quiet", "json")
    given = [name for name in _on_the_command_line(context) if name not in harmless]
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise UserError(f"--from repeats a run as it was; leave out {flags}, or leave out --from and give every option")


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"--batch-size {text!r} is neither 'auto' nor a number from 1 up")
    return int(text)


# ---------------------------------------------------------------- report, compare


@app.command(short_help="Write the leaderboard of several runs as one HTML page.")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one benchmark.", show_default=False)],
    out: Out,
    title: Annotated[str | None, typer.Option(help="Title of the page.", show_default=False)] = None,
) -> None:
    """Write the leaderboard of several runs: one HTML page that needs no network.

    Example: iit-bench report runs/* --out report
    """
    from reports.leaderboard import report as write_report

    print(f"Leaderboard: {write_report(runs, out, **({'title': title} if title else {}))}")


@app.command(short_help="Paired differences between two runs.")
def compare(
    run_a: Annotated[Path, typer.Argument(help="Run folder A.", show_default=False)],
    run_b: Annotated[Path, typer.Argument(help="Run folder B, asked the same.", show_default=False)],
    json: AsJson = False,
) -> None:
    """Paired differences A - B over the same items, per tier, with intervals and tests."""
    from evaluators.comparison import as_dict, as_table, check_comparable
    from evaluators.comparison import compare as compare_predictions
    from iit_bench.folders import load_run
    from iit_bench.tables import canonical_json

    a, b = load_run(run_a), load_run(run_b)
    check_comparable(a.run, b.run)
    results = compare_predictions(a.predictions, b.predictions, b.run["name"])
    shown = (results, a.run["name"], b.run["name"])
    print(canonical_json(as_dict(*shown)) if json else as_table(*shown))


# ---------------------------------------------------------------- train


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (`iit-bench list recipes`) or a YAML file.", show_default=False)],
    out: Out,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change one value of the recipe: KEY=VALUE; repeatable.", show_default=False)
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Start over, or go on from the last checkpoint.")] = False,
) -> None:
    """Train the lab's models, or your own, from a recipe. Interrupted, the same command goes on from the last checkpoint.

    Example: iit-bench train lab-base --out trained/base
    """
    from iit_bench.training.train import run as run_recipe

    print(run_recipe(recipe, overrides or [], out, resume=not fresh))


# ---------------------------------------------------------------- list


@app.command("list")
def list_names(
    what: Annotated[
        Literal["models", "sources", "tasks", "tiers", "presets", "recipes"], typer.Argument(help="What to list.", show_default=False)
    ],
    json: AsJson = False,
) -> None:
    """List the names that other commands take."""
    from iit_bench.listing import listing

    rows = listing(what)
    if json:
        import json as codec

        print(codec.dumps(dict(rows), indent=2))
    else:
        width = max((len(name) for name, _ in rows), default=0)
        for name, description in rows:
            print(f"{name:{width}}  {description}".rstrip())
