"""Writes the README of an exported folder: how to run it with the other tool, and what its figures can be compared with."""

from __future__ import annotations

from builders.export.base import Plan
from builders.export.lm_eval import MAX_NEW_TOKENS, TaskGroup, groups_of
from builders.export.vlmeval import table_name
from iit_bench.numerals import counted
from iit_bench.version import __version__

_HEAD = """# {name}: the Interleaved Image-Text benchmark {kind}

Written by iit-bench {version} from the benchmark with rows_sha256 `{rows}`:
style `{style}`, gold history. The folder does not need iit-bench, and may be moved.

"""
_LM_EVAL = """{commands}

| group | tasks, one per tier | the group's `acc`, the mean over its tiers, equals the IIT score of `iit-bench eval --style {style}` with |
|---|---|---|
{table}

Needs lm-eval 0.4.13 or newer with its transformers models (`pip install 'lm-eval[hf]'`). A multimodal model runs every command with
`hf-multimodal`. `iit_tasks.py` makes the prompts, `extraction.py` extracts choices from replies.

## What can be compared

- With `--apply_chat_template` and a model that has a chat template, prompts equal those of `iit-bench eval`, character by character. So do,
  item by item, log-probabilities, `acc`, `acc_norm` and `acc_bytes`, and for `_generate` tasks the replies and `acc`.
- White space at the end of a template's generation prompt ("<|assistant|>\\n") counts to every reply in lm-eval, and to the prompt in
  iit-bench: each choice's log-probability then differs by the same amount. `acc` is the same; `acc_norm` and `acc_bytes` may differ. A
  template that writes a space between generation prompt and reply ("ASSISTANT: Paris") is scored with it by iit-bench only.
- A reply that ends at the token limit without a choice is `truncated` in iit-bench, and unparsed in lm-eval.
- Without `--apply_chat_template`, turns follow each other as plain text. iit-bench has no such prompts, so no figures can be compared.
- lm-eval's multimodal models generate, but give no log-likelihoods: tiers with images have only `_generate` tasks.
- `_generate` tasks with and without images need two commands: lm-eval's `hf-multimodal` treats all requests like the first one. The
  IIT score of `--scoring generate` is the mean over all tiers{mean}.
- lm-eval's standard error of a group treats tiers as independent, although they have the same targets; the intervals of
  `iit-bench eval --bench` do not.
- lm-eval cuts off the beginning of a dialogue that exceeds the model's context; iit-bench counts it as an error.
- Replies have at most {tokens} tokens, as in `iit-bench eval`; change both with `--gen_kwargs max_gen_toks=N` and `--max-new-tokens N`.
"""
_VLMEVAL = """    LMUData=THIS_FOLDER python run.py --data {tables} --model MODEL --judge exact_matching

| table | dialogues |
|---|---|
{table}

VLMEvalKit treats a table as a custom multiple-choice data set (text-only if the tier has no images). It writes decoded images to `images/`
in its data folder.

## What can be compared

- VLMEvalKit's prompt is one user turn: all images, then "Question: …", the choices with letters, and "Please select the correct answer from
  the options above.". Earlier turns are part of the question's text, in the same format, each followed by "Answer: LETTER"; `<image k>`
  marks the place of the k-th image. Models with `INTERLEAVE = False` get only the first image.
- `iit-bench eval --suite vqa --data-root THIS_FOLDER --tasks {first} …` runs and scores a table with VLMEvalKit's own code: it equals
  VLMEvalKit's own run of the same model, item by item.
- `iit-bench eval --bench …` uses chat turns and other words in every style: no prompt is the same, so its scores cannot be compared with
  these. Questions, choices, their order and the gold answers are the same. So are the outcomes of equal replies, except for two rules of
  VLMEvalKit: a reply that equals one choice is ambiguous if it contains another choice, and a single "Z" means no answer.
"""


def lm_eval(plan: Plan) -> str:
    """README of lm-eval tasks."""
    groups = groups_of(plan)
    run = "    lm_eval --model {} --model_args pretrained=PATH --include_path THIS_FOLDER --apply_chat_template --batch_size 8 --tasks {}"
    text = ",".join(group.name for group in groups if not group.with_images)
    commands = [run.format("hf", text)] if text else []
    commands += [run.format("hf-multimodal", "iit_visual_generate")] if plan.visual_tiers else []
    rows = [_group_row(group) for group in groups]
    counts = (len(plan.text_tiers), len(plan.visual_tiers))
    mean = f": ({counts[0]} · `iit_text_generate` + {counts[1]} · `iit_visual_generate`) / {sum(counts)}" if all(counts) else ""
    return _head(plan, "as lm-eval tasks") + _LM_EVAL.format(
        commands="\n".join(commands),
        style=plan.style,
        table="\n".join(rows),
        mean=mean,
        tokens=MAX_NEW_TOKENS,
    )


def _group_row(group: TaskGroup) -> str:
    tasks = ", ".join(f"`{task}`" for task in group.tasks)
    return f"| `{group.name}` | {tasks} | `--scoring {group.scoring} --tiers {','.join(group.tiers)}` |"


def vlmeval(plan: Plan) -> str:
    """README of VLMEvalKit tables."""
    tables = {table_name(plan, tier): plan.written[tier] for tier in plan.tiers}
    rows = "\n".join(f"| `{name}` | {count} |" for name, count in tables.items())
    return _head(plan, "as VLMEvalKit tables") + _VLMEVAL.format(tables=" ".join(tables), first=next(iter(tables)), table=rows)


def _head(plan: Plan, kind: str) -> str:
    manifest = plan.benchmark.manifest
    head = _HEAD.format(name=manifest["name"], kind=kind, version=__version__, rows=plan.benchmark.rows_sha256, style=plan.style)
    left_out = [f"- left out: {counted(count, 'dialogue')}: {reason}" for reason, count in plan.left_out.items()]
    return head + ("\n".join(left_out) + "\n\n" if left_out else "")
