"""VLMEvalKit's own run of a model, and ours, to be compared item by item. Tests are no package: loaded by path, as the fixture `oracle`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evaluators.suites import SuiteOptions
from evaluators.vlmeval_adapter import dataset_class, kit, tame
from evaluators.vqa import evaluate_vqa_model
from iit_bench.folders import SuiteRun, load_suite_run
from iit_bench.models.base import Model

TOKENS = 6


def vlmevalkits_own(make_model: Callable[[Any], Any], tasks: tuple[str, ...], tables: Path, work: Path) -> dict[str, dict[str, Any]]:
    """Per task: what VLMEvalKit predicts, finds item by item, and returns."""
    found = {}
    with pytest.MonkeyPatch.context() as patch, kit() as vlmeval:
        lmu = work / "lmu"
        lmu.mkdir()
        for name in tasks:
            (lmu / f"{name}.tsv").symlink_to(next(tables.rglob(f"{name}.tsv")))
        for name, value in {"LMUData": str(lmu), "PRED_FORMAT": "tsv", "EVAL_FORMAT": "json"}.items():
            patch.setitem(os.environ, name, value)
        from vlmeval.vlm.base import BaseModel

        model = make_model(BaseModel)
        for name in tasks:
            kind: Any = dataset_class(name, vlmeval.root) or custom_class(lmu / f"{name}.tsv")
            tame(kind)
            kind.DATASET_MD5 = {}  # our tables are not the published ones: they would be downloaded
            dataset = kind(dataset=name)
            vlmeval.infer_data_job(model, str(work), "own", dataset)
            result = dataset.evaluate(str(work / f"own_{name}.tsv"), model="exact_matching", nproc=1)
            found[name] = {"result": result, "predictions": predictions(work / f"own_{name}.tsv"), "items": items(work, f"own_{name}")}
    return found


def custom_class(table: Path) -> Any:
    """The class that VLMEvalKit's `build_dataset` takes for a table that it does not know; that function imports all of VLMEvalKit."""
    from vlmeval.dataset.image_mcq import CustomMCQDataset
    from vlmeval.dataset.text_mcq import CustomTextMCQDataset
    from vlmeval.smp import load

    data = load(str(table))
    assert "A" in data and "B" in data
    return CustomMCQDataset if "image" in data or "image_path" in data else CustomTextMCQDataset


def predictions(path: Path) -> dict[str, str]:
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    return dict(zip(frame["index"], frame["prediction"], strict=True))


def items(folder: Path, stem: str) -> dict[str, str]:
    """Item → VLMEvalKit's verdict, from whichever file the data set writes."""
    for ending, column in (("_exact_matching_result", "hit"), ("_auxmatch", "score"), ("_results", "eval_match")):
        path = folder / f"{stem}{ending}.tsv"
        if path.is_file():
            frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
            return dict(zip(frame["index"], frame[column], strict=True))
    raise AssertionError(f"no items of {stem}")


def ours(model: Model, tasks: tuple[str, ...], tables: Path, out: Path) -> SuiteRun:
    options = SuiteOptions(model.info.name, out, "vqa", tasks, data_root=tables, max_new_tokens=TOKENS)
    evaluate_vqa_model(model, options, progress=False)
    return load_suite_run(out)


def check_equal_item_by_item(run: SuiteRun, own: dict[str, dict[str, Any]]) -> None:
    for task, theirs in own.items():
        (stem,) = [path.name.removesuffix(".tsv") for path in (run.path / "vlmeval" / task / "main").glob(f"*{task}.tsv")]
        assert predictions(run.path / "vlmeval" / task / "main" / f"{stem}.tsv") == theirs["predictions"], task
        assert items(run.path / "vlmeval" / task / "main", stem) == theirs["items"], task


def plain_llava(folder: Path) -> Callable[[Any], Any]:
    """Makes a model class of VLMEvalKit's kind, in plain transformers, without our code."""
    import torch
    from PIL import Image
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    processor = LlavaProcessor.from_pretrained(folder)
    network = LlavaForConditionalGeneration.from_pretrained(folder).eval()

    def model(base: Any) -> Any:
        class Llava(base):
            INTERLEAVE = True

            def generate_inner(self, message: Any, dataset: str | None = None) -> str:
                content = [{"type": "image"} if part["type"] == "image" else {"type": "text", "text": part["value"]} for part in message]
                text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
                images = [Image.open(part["value"]).convert("RGB") for part in message if part["type"] == "image"]
                inputs = processor(text=[text], images=images or None, return_tensors="pt")
                with torch.inference_mode():
                    output = network.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
                return processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()

        return Llava()

    return model
