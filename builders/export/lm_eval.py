"""A benchmark as lm-eval tasks: a folder for `lm_eval --include_path`.

iit_TT.yaml            tier TT (no images), every choice scored as the reply      = `iit-bench eval --scoring loglikelihood`
iit_TT_generate.yaml   any tier, greedy reply, the choice extracted by rule       = `iit-bench eval --scoring generate`
iit_text.yaml, …       groups: means over tiers
data/TT.parquet        the dialogues of a tier, in the benchmark's order
images/SHA256          the pictures, each once
iit_tasks.py           the task class; extraction.py, the rule: copies of this project's files
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from builders.export.base import Advance, Asked, File, Plan, Row
from evaluators.iit import extraction
from iit_bench import asking
from iit_bench.types import IMAGE_MARK, Image, Message, Style, visual_share

METRICS = ("acc", "acc_norm", "acc_bytes")
CHOICE = "choice"  # name of the filter that reads a choice out of a reply, part of its metrics' names
MAX_NEW_TOKENS = 32  # the default of `iit-bench eval`
PYTHON = {"iit_tasks.py": Path(__file__).with_name("iit_tasks.py"), "extraction.py": Path(extraction.__file__)}
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "tier", "group", "target", "source", "subject", "cluster", "style", "question")]
    + [("messages", pa.list_(_MESSAGE)), ("choices", pa.list_(pa.string())), ("replies", pa.list_(pa.string()))]
    + [("gold", pa.int64()), ("images", pa.list_(pa.string()))]
)


def files(plan: Plan, advance: Advance) -> Iterator[File]:
    """Everything but README and manifest."""
    written: set[str] = set()
    for tier in plan.tiers:
        rows = []
        for _, asked, row in plan.rows(tier, partial(_row, style=plan.style), advance):
            rows.append(row)
            pictures = {_file_name(image): image.data for image in asked.images}
            yield from ((name, data) for name, data in pictures.items() if name not in written)
            written |= pictures.keys()
        plan.done(tier, len(rows))
        yield f"data/{tier}.parquet", _parquet(rows)
        yield from _tasks(tier, plan)
    yield from _groups(plan)
    for name, path in PYTHON.items():
        yield name, path.read_bytes()


# ---------------------------------------------------------------- documents


def _row(asked: Asked, style: Style) -> Row | str:
    """A dialogue as a document, or why lm-eval would ask another one."""
    target, dialogue = asked.target, asked.dialogue
    messages = asking.chat(asked.questions, style, dialogue.connectors)
    if asked.images and any(IMAGE_MARK in message.text for message in messages):
        return f"a text holds {IMAGE_MARK}, which lm-eval would take for an image"
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
        "images": [_file_name(image) for image in asked.images],
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
    pass


_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))


def _yaml(name: str, value: Mapping[str, Any]) -> File:
    return f"{name}.yaml", yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _tasks(tier: str, plan: Plan) -> Iterator[File]:
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
        yield _yaml(f"iit_{tier}", {"task": f"iit_{tier}", **common, **scored, "metadata": metadata})
    said: dict[str, Any] = {
        "output_type": "generate_until",
        "generation_kwargs": {"until": [], "max_gen_toks": MAX_NEW_TOKENS, "do_sample": False},
        "filter_list": [{"name": CHOICE, "filter": [{"function": "custom", "filter_fn": _Function("iit_tasks.choose")}]}],
        "process_results": _Function("iit_tasks.score"),
        "metric_list": [_metric("acc"), _metric("unparsed", higher_is_better=False)],
    }
    if visual_share(tier):
        said["doc_to_image"] = _Function("iit_tasks.images")
    yield _yaml(f"iit_{tier}_generate", {"task": f"iit_{tier}_generate", **common, **said, "metadata": metadata})


def _metric(name: str, higher_is_better: bool = True) -> dict[str, Any]:
    return {"metric": name, "aggregation": "mean", "higher_is_better": higher_is_better}


def groups_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Group -> its tasks. Tiers with and without images never share one: lm-eval's models cannot take both in one run."""
    found = {
        "iit_text": tuple(f"iit_{tier}" for tier in plan.text_tiers),
        "iit_text_generate": tuple(f"iit_{tier}_generate" for tier in plan.text_tiers),
        "iit_visual_generate": tuple(f"iit_{tier}_generate" for tier in plan.visual_tiers),
    }
    return {name: tasks for name, tasks in found.items() if tasks}


def _groups(plan: Plan) -> Iterator[File]:
    for name, tasks in groups_of(plan).items():
        metrics, by = (("acc", "unparsed"), CHOICE) if name.endswith("generate") else (METRICS, "none")
        means = [{"metric": metric, "aggregation": "mean", "weight_by_size": False, "filter_list": [by]} for metric in metrics]
        yield _yaml(name, {"group": name, "task": list(tasks), "aggregate_metric_list": means, "metadata": {"version": 1.0}})
