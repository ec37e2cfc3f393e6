"""The IIT benchmark's dialogues as lm-eval tasks. Written by `iit-bench export`; needs lm-eval (0.4.13 or newer) and nothing of iit-bench.

A document is one dialogue: `messages` (the turns in order, the question that is scored last), `choices` (texts), `replies` (what is scored
as the reply: the choices, or their letters), `gold` (index), `style`, and `images` (files in this folder) for the `<image>` marks of the
messages, in order.

lm-eval knows no dialogues: its tasks have one question, with examples in front of it. So the class below makes the prompt out of the
document's own turns. Under --apply_chat_template every turn is a turn of the chat; without, turns follow each other as lm-eval's few-shot
examples do.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
from lm_eval.api.task import ConfigurableTask
from PIL import Image

HERE = Path(__file__).parent
UNPARSED = "[invalid]"


class Dialogues(ConfigurableTask):
    """One tier. The files lie beside this one, wherever the folder is."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config={name: value for name, value in config.items() if name != "class"})

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None, **more: Any) -> None:
        assert dataset_kwargs is not None
        rows = pq.read_table(HERE / dataset_kwargs["data_files"]).to_pylist()
        self.dataset = {"test": datasets.Dataset.from_list(rows)}

    def fewshot_docs(self) -> None:
        """A dialogue brings its own turns: no examples are drawn."""

    def fewshot_context(  # type: ignore[override]
        self,
        doc: Mapping[str, Any],
        num_fewshot: int = 0,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        fewshot_as_multiturn: bool = True,
        chat_template: Callable[..., str] | None = None,
        gen_prefix: str | None = None,
    ) -> str:
        system = [{"role": "system", "content": system_instruction}] if system_instruction else []
        turns = [*system, *(dict(turn) for turn in doc["messages"])]  # copies: some models' templates change what they are given
        if apply_chat_template and chat_template:
            return chat_template(turns, add_generation_prompt=True)
        after = {"system": "\n\n", "user": " ", "assistant": "\n\n"}  # lm-eval's delimiters
        return "".join(turn["content"] + after[turn["role"]] for turn in turns[:-1]) + turns[-1]["content"]


def images(doc: Mapping[str, Any]) -> list[Image.Image]:
    """The pictures of a document, in the order of its marks."""
    return [Image.open(HERE / name).convert("RGB") for name in doc["images"]]


def choose(resps: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[str]:
    """lm-eval's filter: the choice that each reply means, or lm-eval's word for none."""
    chosen = [_rule()(replies[0], doc["choices"], doc["style"]) for replies, doc in zip(resps, docs, strict=True)]
    return [doc["choices"][index] if index >= 0 else UNPARSED for index, doc in zip(chosen, docs, strict=True)]


def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Metrics of a filtered reply. One that means no choice is wrong, and `unparsed`."""
    return {"acc": float(results[0] == doc["choices"][doc["gold"]]), "unparsed": float(results[0] == UNPARSED)}


@cache
def _rule() -> Callable[[str, Sequence[str], str], int]:
    rule: Callable[[str, Sequence[str], str], int] = runpy.run_path(str(HERE / "extraction.py"))["extract_choice"]
    return rule
