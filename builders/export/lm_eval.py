"""Writes a benchmark as lm-eval tasks: a folder for `lm_eval --include_path`.

iit_TT.yaml            tier TT (no images), each choice scored as the reply       = `iit-bench eval --scoring loglikelihood`
iit_TT_generate.yaml   any tier, greedy reply, the choice extracted by rule       = `iit-bench eval --scoring generate`
iit_text.yaml, …       groups: means over tiers
data/TT.parquet        the dialogues of a tier, in the benchmark's order
images/SHA256          the images, each once
iit_tasks.py           the task class; extraction.py, the extraction rule: copies of this project's files
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from builders.export.base import Advance, File, LeftOut, Plan, ResolvedDialogue, Row
from evaluators.iit import extraction
from iit_bench import asking
from iit_bench.images import portable
from iit_bench.types import IMAGE_MARK, Image, Message, Scoring, Style, visual_share

METRICS = ("acc", "acc_norm", "acc_bytes")
CHOICE = "choice"  # name of the filter that extracts a choice from a reply; part of its metrics' names
MAX_NEW_TOKENS = 32  # the default of `iit-bench eval`
PYTHON = {"iit_tasks.py": Path(__file__).with_name("iit_tasks.py"), "extraction.py": Path(extraction.__file__)}
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "tier", "group", "target", "source", "subject", "cluster", "style", "question")]
    + [("messages", pa.list_(_MESSAGE)), ("choices", pa.list_(pa.string())), ("replies", pa.list_(pa.string()))]
    + [("gold", pa.int64()), ("images", pa.list_(pa.string()))]
)


def files(plan: Plan, advance: Advance) -> Iterator[File]:
    """All files but README and manifest."""
    written: set[str] = set()
    for tier in plan.tiers:
        rows = []
        for _, resolved, row in plan.rows(tier, partial(_document, style=plan.style), advance):
            rows.append(row)
            images = {_file_name(image): image for image in resolved.images}
            yield from ((name, portable(image)[0]) for name, image in images.items() if name not in written)
            written |= images.keys()
        plan.record_written(tier, len(rows))
        yield f"data/{tier}.parquet", _parquet(rows)
        yield from _tasks(tier, plan)
    yield from _groups(plan)
    for name, path in PYTHON.items():
        yield name, path.read_bytes()


# ---------------------------------------------------------------- documents


def _document(resolved: ResolvedDialogue, style: Style) -> Row | LeftOut:
    """A dialogue as a document, or why lm-eval would make another prompt of it."""
    target, dialogue = resolved.target, resolved.dialogue
    if style == "cloze" and target.prefix_choices:
        return LeftOut("one choice begins with another, which style cloze cannot ask")
    messages = asking.chat(resolved.questions, style, dialogue.connectors)
    if resolved.images and any(IMAGE_MARK in message.text for message in messages):
        return LeftOut(f"a text holds {IMAGE_MARK}, which lm-eval would take for an image")
    turns = [{"role": message.role, "content": _marked(message)} for message in messages]
    return {
        "id": dialogue.id,
        "tier": dialogue.tier,
        "group": dialogue.group,
        "target": target.id,
        "source": target.source,
        "subject": target.subject,
        "cluster": target.cluster,
        "style": style,
        "question": turns[-1]["content"],
        "messages": turns,
        "choices": target.choices,
        "replies": asking.replies(target, style),
        "gold": target.answer,
        "images": [_file_name(image) for image in resolved.images],
    }


def _marked(message: Message) -> str:
    return "".join(part if isinstance(part, str) else IMAGE_MARK for part in message.parts)


def _file_name(image: Image) -> str:
    return f"images/{image.sha256}"


def _parquet(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="zstd")
    return sink.getvalue()


# ---------------------------------------------------------------- tasks and groups


class _Function(str):
    """A name that the YAML writes as lm-eval's `!function`."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also writes `_Function`."""


_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))


def _yaml(name: str, value: Mapping[str, Any]) -> File:
    return f"{name}.yaml", yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def task_name(tier: str, scoring: Scoring) -> str:
    """Name of the lm-eval task of a tier."""
    return f"iit_{tier}" if scoring == "loglikelihood" else f"iit_{tier}_generate"


def _tasks(tier: str, plan: Plan) -> Iterator[File]:
    """The YAML of a tier's tasks: generated replies, and without images also scored choices."""
    common = {
        "class": _Function("iit_tasks.Dialogues"),
        "dataset_path": "parquet",
        "dataset_kwargs": {"data_files": f"data/{tier}.parquet"},
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "question",
        "doc_to_target": "gold",
    }
    metadata = {"version": 1.0, "benchmark": plan.benchmark.manifest["name"], "rows_sha256": plan.benchmark.rows_sha256}
    if not visual_share(tier):
        scored = {"output_type": "multiple_choice", "doc_to_choice": "replies", "metric_list": [_metric(name) for name in METRICS]}
        name = task_name(tier, "loglikelihood")
        yield _yaml(name, {"task": name, **common, **scored, "metadata": metadata})
    generated: dict[str, Any] = {
        "output_type": "generate_until",
        "generation_kwargs": {"until": [], "max_gen_toks": MAX_NEW_TOKENS, "do_sample": False},
        "filter_list": [{"name": CHOICE, "filter": [{"function": "custom", "filter_fn": _Function("iit_tasks.choose")}]}],
        "process_results": _Function("iit_tasks.score"),
        "metric_list": [_metric("acc"), _metric("unparsed", higher_is_better=False)],
    }
    if visual_share(tier):
        generated["doc_to_image"] = _Function("iit_tasks.images")
    name = task_name(tier, "generate")
    yield _yaml(name, {"task": name, **common, **generated, "metadata": metadata})


def _metric(name: str, higher_is_better: bool = True) -> dict[str, Any]:
    return {"metric": name, "aggregation": "mean", "higher_is_better": higher_is_better}


@dataclass(frozen=True, kw_only=True)
class TaskGroup:
    """A group of lm-eval tasks, one per tier; its figures are means over the tiers."""

    name: str
    tiers: tuple[str, ...]
    scoring: Scoring
    with_images: bool

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the order of `tiers`."""
        return [task_name(tier, self.scoring) for tier in self.tiers]


def groups_of(plan: Plan) -> list[TaskGroup]:
    """The groups that have tiers. None mixes tiers with and without images: lm-eval's models cannot take both in one run."""
    groups = (
        TaskGroup(name="iit_text", tiers=plan.text_tiers, scoring="loglikelihood", with_images=False),
        TaskGroup(name="iit_text_generate", tiers=plan.text_tiers, scoring="generate", with_images=False),
        TaskGroup(name="iit_visual_generate", tiers=plan.visual_tiers, scoring="generate", with_images=True),
    )
    return [group for group in groups if group.tiers]


def _groups(plan: Plan) -> Iterator[File]:
    for group in groups_of(plan):
        metrics, filter_name = (METRICS, "none") if group.scoring == "loglikelihood" else (("acc", "unparsed"), CHOICE)
        means = [{"metric": metric, "aggregation": "mean", "weight_by_size": False, "filter_list": [filter_name]} for metric in metrics]
        yield _yaml(group.name, {"group": group.name, "task": group.tasks, "aggregate_metric_list": means, "metadata": {"version": 1.0}})
