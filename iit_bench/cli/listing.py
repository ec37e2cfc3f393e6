"""The lists of `iit-bench list`: names that other commands accept."""

from __future__ import annotations

from importlib import resources
from itertools import takewhile

Rows = list[tuple[str, str]]


def listing(what: str) -> Rows:
    """(name, description) of every model, source, task, tier, preset, recipe or arm."""
    lists = {
        "models": _models,
        "sources": _sources,
        "tasks": _tasks,
        "tiers": _tiers,
        "presets": _presets,
        "recipes": _recipes,
        "arms": _arms,
    }
    return lists[what]()


def _models() -> Rows:
    from iit_bench.registry import list_models

    notes = {
        "wings": "bundled nano Wings, or --checkpoint FOLDER",
        "llava": "bundled LLaVA-style rival: same decoder and tower, no learners, or --checkpoint FOLDER",
        "llava-one-rate": "the same, tuned with one learning rate for projector and LLM, as LLaVA is",
        "base-llm": "bundled text-only model that both were tuned from, or --checkpoint FOLDER",
        "hf:": "hf:PATH or hf:HUB_ID, any AutoModelForCausalLM or AutoModelForImageTextToText",
        "openai:": "openai:NAME with --base-url URL, any server with OpenAI's protocol (vLLM, llama.cpp, transformers serve, …)",
        "vllm:": "vllm:PATH or vllm:HUB_ID, run by vLLM in this process, if it is installed",
        "vlmeval:": "vlmeval:NAME, a model of VLMEvalKit's zoo, if its full package is installed",
        "random": "every choice equally likely",
        "majority": "the choice that is the most frequent answer",
    }
    return [(name, notes.get(name, place)) for name, place in list_models().items()]


def _sources() -> Rows:
    from iit_bench.registry import list_sources

    notes = {
        "facts": "text: countries and chemical elements, bundled",
        "two-hop": "text: questions that take two of these facts, bundled",
        "easyvqa": "visual: coloured shapes, PyPI package easy-vqa",
        "digits": "visual: handwritten digits, one or two per question, PyPI package scikit-learn",
        "flags": "visual: which country a flag is of, bundled",
        "flag-facts": "visual: facts of the country that a flag is of, bundled",
        "lm-eval:": "text: lm-eval:TASK, any multiple-choice task or group of lm-eval",
        "vlmeval:": "visual: vlmeval:NAME, any multiple-choice or yes/no table of VLMEvalKit, or vlmeval:PATH.tsv in its format",
        "table:": "either: table:PATH or just PATH, a .jsonl, .json, .csv, .tsv or .parquet file with named columns",
        "hub:": "either: hub:ORG/NAME[@REVISION][:CONFIGURATION[:SPLIT]], a data set of the Hub with named columns",
    }
    return [(name, notes.get(name, place)) for name, place in list_sources().items()]


def _tasks() -> Rows:
    """Suite iit, then names for --tasks in the suites text and vqa, without the thousands of lm-eval's own."""
    from evaluators.text import tasks as lm_eval_tasks
    from evaluators.vqa import presets as vqa
    from iit_bench.errors import UserError

    rows = [("iit", "interleaved image-text dialogues of a benchmark folder")]
    rows += [(name, "suite text") for name in lm_eval_tasks.known_tasks()]
    rows += [(name, f"suite vqa: {', '.join(tasks)}") for name, tasks in vqa.PRESETS.items()]
    try:
        return rows + [(name, "suite vqa") for name in sorted(vqa.known_tasks())]
    except UserError as error:
        return [*rows, ("vlmeval", str(error))]


def _tiers() -> Rows:
    from builders.tiers import parse_tiers
    from iit_bench.types import visual_share

    paper = parse_tiers("paper")
    return [(t, f"visual share {visual_share(t):.2f}" + (", paper" if t in paper else "")) for t in parse_tiers("full")]


def _presets() -> Rows:
    from builders.presets import describe_presets

    return describe_presets()


def _arms() -> Rows:
    from evaluators.arms.names import ARMS

    return [(name, arm.changes) for name, arm in ARMS.items()]


def _recipes() -> Rows:
    """Name of each shipped recipe, and the paragraph of comments at its top; and the other names of the lab's present models."""
    from iit_bench.training.recipe import NANO, NANO_IS

    files = sorted(resources.files("iit_bench").joinpath("recipes").iterdir(), key=lambda file: file.name)
    recipes = [(file.name.removesuffix(".yaml"), file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".yaml")]
    nano = [(NANO + name.removeprefix(NANO_IS), f"Another name of {name}.") for name, _ in recipes if name.startswith(NANO_IS)]
    return sorted([(name, _first_paragraph(text)) for name, text in recipes] + nano)


def _first_paragraph(text: str) -> str:
    lines = [line.lstrip("#").strip() for line in takewhile(lambda line: line.startswith("#"), text.splitlines())]
    return " ".join(takewhile(bool, lines))
