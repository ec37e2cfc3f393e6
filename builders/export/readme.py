"""The README of an exported folder: how to run it with the other tool, and what its figures can be compared with."""

from __future__ import annotations

from collections.abc import Sequence

from builders.export.base import Plan
from builders.export.lm_eval import MAX_NEW_TOKENS, groups_of
from builders.export.vlmeval import table_name
from iit_bench.version import __version__

_HEAD = """# {name}: the Interleaved Image-Text benchmark {kind}

Written by iit-bench {version} from the benchmark with rows_sha256 `{rows}`:
style `{style}`, gold history. The folder needs nothing of iit-bench, and may be moved.

"""
_LM_EVAL = """{commands}

| group | tasks: a tier each | the group's `acc`, the mean over its tiers, equals the IIT score of `iit-bench eval --style {style}` with |
|---|---|---|
{table}

Needs lm-eval 0.4.13 or newer with its models of transformers (`pip install 'lm-eval[hf]'`). A multimodal model runs every command with
`hf-multimodal`. `iit_tasks.py` makes the prompts, `extraction.py` reads choices out of replies.

## What can be compared

- With `--apply_chat_template` and a model that has a chat template, prompts are those of `iit-bench eval`, to the character: so are the
  log-probabilities, `acc`, `acc_norm` and `acc_bytes`, and for `_generate` tasks the replies and `acc`, item by item.
- Without `--apply_chat_template`, turns follow each other as plain text. iit-bench does not ask so: nothing of it compares.
- lm-eval's models answer over images, but give no log-likelihoods: tiers with images are there as `_generate` tasks alone.
- `_generate` tasks with and without images are run in two commands: lm-eval's `hf-multimodal` takes all for the kind of the first. The IIT
  score of `--scoring generate` is the mean over all tiers{mean}.
- lm-eval's standard error of a group takes its tiers as independent, though they ask the same targets; those of
  `iit-bench eval --bench` do not.
- A dialogue longer than the model's context is cut off at its beginning by lm-eval; iit-bench counts it as an error.
- Replies have at most {tokens} tokens, as in `iit-bench eval`; change both with `--gen_kwargs max_gen_toks=N` and `--max-new-tokens N`.
"""
_VLMEVAL = """    LMUData=THIS_FOLDER python run.py --data {tables} --model MODEL --judge exact_matching

| table | dialogues |
|---|---|
{table}

VLMEvalKit takes a table for a custom multiple-choice data set (of text, where the tier has no image). The images that it decodes go to
`images/` in its data folder.

## What can be compared

- VLMEvalKit puts one user turn: all images, then "Question: …", the choices with letters, and "Please select the correct answer from the
  options above.". Earlier turns stand in the question's text in the same words, each with "Answer: LETTER" below, and `<image k>` marks
  where the k-th image belongs. Models with `INTERLEAVE = False` see the first image alone.
- `iit-bench eval --suite vqa --data-root THIS_FOLDER --tasks {first} …` runs and scores a table through VLMEvalKit's own code: it equals
  VLMEvalKit's own run of the same model, item by item.
- `iit-bench eval --bench …` asks in turns and in other words, in every style: no prompt is the same, so its scores are no check of these.
  Questions, choices, their order and the gold answers are the same, and so are the verdicts on equal replies, but for two rules of
  VLMEvalKit: a reply that equals one choice is ambiguous where another choice occurs in it, and a lone "Z" means no answer.
"""


def lm_eval(plan: Plan) -> str:
    groups = groups_of(plan)
    run = "    lm_eval --model {} --model_args pretrained=PATH --include_path THIS_FOLDER --apply_chat_template --batch_size 8 --tasks {}"
    text = ",".join(name for name in groups if "visual" not in name)
    commands = [run.format("hf", text)] if text else []
    commands += [run.format("hf-multimodal", "iit_visual_generate")] if plan.visual_tiers else []
    rows = [_group_row(name, tasks, plan) for name, tasks in groups.items()]
    counts = (len(plan.text_tiers), len(plan.visual_tiers))
    mean = f": ({counts[0]} · `iit_text_generate` + {counts[1]} · `iit_visual_generate`) / {sum(counts)}" if all(counts) else ""
    return _head(plan, "as lm-eval tasks") + _LM_EVAL.format(
        commands="\n".join(commands),
        style=plan.style,
        table="\n".join(rows),
        mean=mean,
        tokens=MAX_NEW_TOKENS,
    )


def _group_row(name: str, tasks: Sequence[str], plan: Plan) -> str:
    scoring = "generate" if name.endswith("generate") else "loglikelihood"
    tiers = ",".join(plan.visual_tiers if "visual" in name else plan.text_tiers)
    return f"| `{name}` | {', '.join(f'`{task}`' for task in tasks)} | `--scoring {scoring} --tiers {tiers}` |"


def vlmeval(plan: Plan) -> str:
    tables = {table_name(plan, tier): plan.written[tier] for tier in plan.tiers}
    rows = "\n".join(f"| `{name}` | {count} |" for name, count in tables.items())
    return _head(plan, "as VLMEvalKit tables") + _VLMEVAL.format(tables=" ".join(tables), first=next(iter(tables)), table=rows)


def _head(plan: Plan, kind: str) -> str:
    manifest = plan.benchmark.manifest
    head = _HEAD.format(name=manifest["name"], kind=kind, version=__version__, rows=plan.benchmark.rows_sha256, style=plan.style)
    lost = [f"- left out: {count} dialogues: {reason}" for reason, count in plan.left_out.items()]
    return head + ("\n".join(lost) + "\n\n" if lost else "")
