"""The IIT benchmark's dialogues as lm-eval tasks. Written by `iit-bench export`; needs lm-eval 0.4.13 or newer, and not iit-bench.

A document is one dialogue: `messages` (the turns in order, the scored question last), `choices` (texts), `replies` (the text scored for
each choice: the choice, or its letter), `gold` (index), `style`, and `images` (files in this folder) for the `<image>` marks of the
messages, in order.

lm-eval's tasks have one question, preceded by examples. The class below makes the prompt from the document's own turns instead. With
--apply_chat_template each turn is a turn of the chat; without it, turns are joined as lm-eval joins few-shot examples.
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
    """The dialogues of one tier, read from the folder of this file."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config={name: value for name, value in config.items() if name != "class"})

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Read the tier's documents from `data_files`, a path relative to this file."""
        assert dataset_kwargs is not None
        rows = pq.read_table(HERE / dataset_kwargs["data_files"]).to_pylist()
        self.dataset = {"test": datasets.Dataset.from_list(rows)}

    def fewshot_docs(self) -> None:
        """None: a dialogue has its own turns, so no examples are drawn."""

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
        """The prompt: system instruction and turns, by the chat template or joined as lm-eval joins few-shot examples."""
        system = [{"role": "system", "content": system_instruction}] if system_instruction else []
        turns = [*system, *(dict(turn) for turn in doc["messages"])]  # copies: some chat templates change their input
        if apply_chat_template and chat_template:
            return chat_template(turns, add_generation_prompt=True)
        delimiters = {"system": "\n\n", "user": " ", "assistant": "\n\n"}  # lm-eval's
        return "".join(turn["content"] + delimiters[turn["role"]] for turn in turns[:-1]) + turns[-1]["content"]


def images(doc: Mapping[str, Any]) -> list[Image.Image]:
    """The images of a document, in the order of its marks."""
    return [Image.open(HERE / name).convert("RGB") for name in doc["images"]]


def choose(resps: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The choice that each reply means, or lm-eval's mark for an invalid reply; a filter function of lm-eval."""
    replies = [_without_reasoning(first) for first, *_ in resps]
    chosen = [_extract_choice()(reply, doc["choices"], doc["style"]) for reply, doc in zip(replies, docs, strict=True)]
    return [doc["choices"][index] if index >= 0 else UNPARSED for index, doc in zip(chosen, docs, strict=True)]


def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Metrics of a filtered reply. A reply that means no choice is wrong and `unparsed`."""
    return {"acc": float(results[0] == doc["choices"][doc["gold"]]), "unparsed": float(results[0] == UNPARSED)}


def _without_reasoning(reply: str) -> str:
    """What follows the last `</think>`; nothing where a reply ends inside its reasoning."""
    return reply.rpartition("</think>")[2].partition("<think>")[0]


@cache
def _extract_choice() -> Callable[[str, Sequence[str], str], int]:
    extract: Callable[[str, Sequence[str], str], int] = runpy.run_path(str(HERE / "extraction.py"))["extract_choice"]
    return extract
