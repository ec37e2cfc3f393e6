"""`iit-bench eval`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from iit_bench.cli.app import AsJson, Out, Quiet, app, names
from iit_bench.cli.eval_all import evaluate_all_suites
from iit_bench.errors import UserError

_NOT_OF_A_RUN = ("suite", "from_run", "quiet", "json")


@app.command("eval", short_help="Score a model; killed, the same command goes on.")
def evaluate(
    context: typer.Context,
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(help="A name of `iit-bench list models`, or hf:, openai:, vllm: or vlmeval: and a name.", show_default=False),
    ] = None,
    bench: Annotated[Path | None, typer.Option(help="Benchmark folder, made by `iit-bench build`.", show_default=False)] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Other weights for this family: folder or Hub id.", show_default=False)] = None,
    suite: Annotated[
        Literal["iit", "text", "vqa", "all"], typer.Option(help="IIT dialogues, lm-eval's tasks, VLMEvalKit's data sets, or all three.")
    ] = "iit",
    tasks: Annotated[
        str | None, typer.Option(help="text, vqa, all: tasks or data sets, comma-separated; wings-text, wings-vqa.", show_default=False)
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="text, vqa, all: folder of `iit-bench fetch`, read instead of the Hub.", show_default=False)
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(help="text: examples before a question; default: each task's own.", show_default=False)
    ] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template/--no-apply-chat-template", help="text: ask in the model's chat format.")
    ] = False,
    fewshot_as_multiturn: Annotated[
        bool,
        typer.Option(
            "--fewshot-as-multiturn/--no-fewshot-as-multiturn",
            help="text: in a chat, each example as turns of its own, or all in the user's one turn.",
        ),
    ] = True,
    gen_kwargs: Annotated[str, typer.Option(help="text: lm-eval's settings of generation, e.g. temperature=0.7.")] = "",
    include_path: Annotated[Path | None, typer.Option(help="text: folder with tasks in lm-eval's format.", show_default=False)] = None,
    confirm_run_unsafe_code: Annotated[
        bool, typer.Option("--confirm-run-unsafe-code", help="text: run the programs that the model writes (MBPP).")
    ] = False,
    judge: Annotated[str, typer.Option(help="vqa: exact_matching, or a judge model of VLMEvalKit by name.")] = "exact_matching",
    blind: Annotated[bool, typer.Option("--blind", help="Remove all images: what do the words alone give away?")] = False,
    tiers: Annotated[str | None, typer.Option(help="Tiers to run, comma-separated; default all.", show_default=False)] = None,
    scoring: Annotated[
        Literal["auto", "loglikelihood", "generate"],
        typer.Option(help="loglikelihood scores every choice, generate reads a greedy reply, auto: the first where the model can."),
    ] = "auto",
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
        Path | None,
        typer.Option(help="Run folder of the base LLM, or its folder of --suite all, to measure forgetting against.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="Requests per batch, or auto.")] = "auto",
    base_url: Annotated[
        str | None, typer.Option(help="openai: address of the server, e.g. http://localhost:8000/v1.", show_default=False)
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help="openai: environment variable that holds the server's key, if it wants one.")
    ] = "OPENAI_API_KEY",
    tokenizer: Annotated[
        str | None,
        typer.Option(help="openai: the model's folder or Hub id, to score replies where the server echoes logprobs.", show_default=False),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="openai: requests under way at once.")] = 8,
    retries: Annotated[int, typer.Option(help="openai: tries after the first, with waits that double from 0.5 s.")] = 6,
    timeout: Annotated[float, typer.Option(help="openai: seconds that one answer may take.")] = 300.0,
    price_in: Annotated[
        float | None, typer.Option(help="openai: price of a million prompt tokens, for the cost in run.json.", show_default=False)
    ] = None,
    price_out: Annotated[float | None, typer.Option(help="openai: price of a million reply tokens.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of models that draw.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name in reports; default: the folder's.", show_default=False)] = None,
    from_run: Annotated[Path | None, typer.Option("--from", help="Repeat an earlier run from its run.json.", show_default=False)] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the checkpoint.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Start over, or go on with what the folder holds.")] = False,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Score a model on a benchmark folder, or on tasks of lm-eval or VLMEvalKit. Killed at any moment, the same command goes on.

    --suite all loads the model once for all three: run folders OUT/iit, OUT/text and OUT/vqa, and one report, OUT/report/index.html.

    Example: iit-bench eval --model wings --bench bench --base runs/base-llm --out runs/wings

    Example: iit-bench eval --suite all --model wings --bench bench --tasks wings-text,wings-vqa --limit 500 --out all/wings
    """
    given = {name: value for name, value in locals().items() if name != "context"}
    from evaluators.runs.options import EvalOptions, SuiteOptions, load_any_options, options_of
    from evaluators.runs.summary import server_text, summary_json, summary_text
    from iit_bench.storage.runs import load_run_header

    if from_run:
        _refuse_beside_from(context)
        options: EvalOptions | SuiteOptions = dataclasses.replace(load_any_options(from_run, out), fresh=fresh)
    else:
        given |= {"tiers": names(tiers), "tasks": names(tasks), "batch_size": _batch_size(batch_size)}
        for needed in ("model", "bench" if suite in ("iit", "all") else "tasks"):
            _required(given[needed], f"--{needed}")
        if suite == "all":
            words = (*_on_the_command_line(context), "out", "tasks", "tiers", "batch_size")
            return evaluate_all_suites({name: given[name] for name in words if name not in _NOT_OF_A_RUN}, quiet, json)
        kind, known = (EvalOptions, _names(EvalOptions)) if suite == "iit" else (SuiteOptions, options_of(suite))
        options = _chosen(kind, known, given, context)
    results = _evaluator(options.suite)(options, progress=not quiet)
    print(summary_json(results) if json else summary_text(options.name or out.name, results))
    if told := server_text(load_run_header(out)):
        print(told, file=sys.stderr)
    if not results.complete:
        raise typer.Exit(1)


def _names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _chosen(kind: Any, known: set[str], given: dict[str, Any], context: typer.Context) -> Any:
    """Options of a suite from the words of the command line; what is not given keeps the suite's default, what it has not is refused."""
    if foreign := [name for name in _on_the_command_line(context) if name not in (*known, "quiet", "json")]:
        flags = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise UserError(f"--suite {given['suite']} has no option {flags}; leave it out")
    return kind(**{name: value for name, value in given.items() if name in known and value is not None})


def _evaluator(suite: str) -> Any:
    if suite == "text":
        from evaluators.text.evaluate import evaluate_text

        return evaluate_text
    if suite == "vqa":
        from evaluators.vqa.evaluate import evaluate_vqa

        return evaluate_vqa
    from evaluators.iit.evaluate import evaluate as evaluate_iit

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
