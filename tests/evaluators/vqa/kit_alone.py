"""VLMEvalKit by itself, in a process of its own: `python kit_alone.py SPEC.json`. The oracle of our VQA suite.

Its data set classes, inference loop and scoring run as they are, in its own way of cells, pools and pickles; nothing of our suite is
imported. The models are what a user of VLMEvalKit would write: a subclass of its `BaseModel` over plain transformers. Its package
`__init__` files alone are left out: they ask for 177 packages.

    spec.json    {"model", "folder", "tasks", "work", "tokens"}; work is the current folder, and $LMUData its folder lmu
    work/        VLMEvalKit's own result files, and found.json: per task what it predicts, finds item by item, and returns;
                 under "" the modules of this project that were imported
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import replies

# Where VLMEvalKit's `build_dataset` finds the data set: in the class that supports its name.
CHOICES = ("ScienceQA_TEST", "AI2D_TEST", "SEEDBench_IMG", "MMStar", "MMBench_DEV_EN", "MMBench_DEV_CN", "CCBench")
YES_NO = ("MME", "HallusionBench", "POPE", "AMBER", "VSR-zeroshot")
OPEN = ("TextVQA_VAL", "ChartQA_TEST", "DocVQA_VAL", "InfoVQA_VAL", "OCRVQA_TESTCORE", "GQA_TestDev_Balanced")
CLASSES = {
    "MMMU_DEV_VAL": "image_mcq.MMMUDataset",
    **dict.fromkeys(CHOICES, "image_mcq.ImageMCQDataset"),
    **dict.fromkeys(YES_NO, "image_yorn.ImageYORNDataset"),
    **dict.fromkeys(OPEN, "image_vqa.ImageVQADataset"),
}
STAMP = f"vlmevalkit-alone-{os.getpid()}"  # of a file in /tmp; VLMEvalKit's own stamp is the second, which other tests share


def main(spec: dict[str, Any]) -> None:
    import_shells()
    from vlmeval.inference import infer_data_job

    model = MODELS[spec["model"]](spec)
    found: dict[str, Any] = {}
    for name in spec["tasks"]:
        kind = data_set_class(name)
        assert name not in CLASSES or name in kind.supported_datasets()
        kind.DATASET_MD5 = {}  # our tables are not the published ones: they would be downloaded
        dataset = kind(dataset=name)
        infer_data_job(model, work_dir=spec["work"], model_name="own", dataset=dataset)
        predictions = Path(spec["work"]) / f"own_{name}.tsv"
        result = dataset.evaluate(str(predictions), model="exact_matching", nproc=1)
        found[name] = {
            "result": result.to_dict("records"),
            "predictions": column(predictions, "prediction"),
            "items": verdicts(predictions),
        }
    found[""] = sorted(name for name in sys.modules if name.split(".")[0] in ("iit_bench", "evaluators", "builders", "reports"))
    (Path(spec["work"]) / "found.json").write_text(json.dumps(found, default=float), encoding="utf-8")
    Path(f"/tmp/{STAMP}.tsv").unlink(missing_ok=True)


def import_shells() -> None:
    """Empty packages in the place of those whose `__init__` loads everything, and the few names that other files take from them."""
    spec = find_spec("vlmeval")
    assert spec is not None and spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    for package in ("", ".vlm", ".api", ".dataset", ".dataset.utils"):
        shell = ModuleType("vlmeval" + package)
        shell.__path__ = [str(root.joinpath(*package.split(".")[1:]))]
        sys.modules[shell.__name__] = shell
    config = sys.modules["vlmeval.config"] = ModuleType("vlmeval.config")
    config.supported_VLM = {}
    sys.modules["vlmeval.dataset"].DATASET_TYPE = None
    sys.modules["vlmeval.dataset.utils"].__dict__.update(DEBUG_MESSAGE="", build_judge=None)
    matching = importlib.import_module("vlmeval.dataset.utils.multiple_choice")
    matching.timestr = lambda: STAMP


def data_set_class(name: str) -> Any:
    if name in CLASSES:
        module, kind = CLASSES[name].split(".")
    else:  # as `build_dataset` chooses for a table that it does not know
        with Path("lmu", f"{name}.tsv").open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file, delimiter="\t"))
        assert {"A", "B"} <= set(columns), "a custom table must be multiple choice"
        module, kind = ("image_mcq", "CustomMCQDataset") if "image" in columns else ("text_mcq", "CustomTextMCQDataset")
    return getattr(importlib.import_module(f"vlmeval.dataset.{module}"), kind)


def column(path: Path, name: str) -> dict[str, str]:
    """Item -> its value in a column of one of VLMEvalKit's result files."""
    csv.field_size_limit(2**30)
    with path.open(encoding="utf-8", newline="") as file:
        return {row["index"]: row[name] for row in csv.DictReader(file, delimiter="\t")}


def verdicts(predictions: Path) -> dict[str, str]:
    """Item -> VLMEvalKit's verdict, from whichever file the data set writes."""
    for ending, name in (("_exact_matching_result", "hit"), ("_auxmatch", "score"), ("_results", "eval_match")):
        path = predictions.with_name(f"{predictions.stem}{ending}.tsv")
        if path.is_file():
            return column(path, name)
    raise AssertionError(f"no items beside {predictions}")


# ---------------------------------------------------------------- models, as VLMEvalKit's users write them


def saying(reply: replies.Reply) -> Any:
    from vlmeval.vlm.base import BaseModel

    class Saying(BaseModel):
        INTERLEAVE = True

        def generate_inner(self, message: Any, dataset: str | None = None) -> str:
            text = "".join(part["value"] for part in message if part["type"] == "text")
            return reply(text, sum(part["type"] == "image" for part in message))

    return Saying()


def llava(spec: dict[str, Any]) -> Any:
    import torch
    from PIL import Image
    from transformers import LlavaForConditionalGeneration, LlavaProcessor
    from vlmeval.vlm.base import BaseModel

    processor = LlavaProcessor.from_pretrained(spec["folder"])
    network = LlavaForConditionalGeneration.from_pretrained(spec["folder"], dtype=torch.float32).eval()

    class Llava(BaseModel):
        INTERLEAVE = True

        def generate_inner(self, message: Any, dataset: str | None = None) -> str:
            content = [{"type": "image"} if part["type"] == "image" else {"type": "text", "text": part["value"]} for part in message]
            text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            images = [Image.open(part["value"]).convert("RGB") for part in message if part["type"] == "image"]
            inputs = processor(text=[text], images=images or None, return_tensors="pt")
            with torch.inference_mode():
                output = network.generate(**inputs, max_new_tokens=spec["tokens"], do_sample=False)
            return processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()

    return Llava()


def wings(spec: dict[str, Any]) -> Any:
    """As the README shows: Wings by transformers' Auto classes."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from vlmeval.vlm.base import BaseModel

    importlib.import_module("iit_bench.models.wings")
    processor = AutoProcessor.from_pretrained(spec["folder"])
    network = AutoModelForImageTextToText.from_pretrained(spec["folder"], dtype=torch.float32).eval()
    how = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}

    class Wings(BaseModel):
        INTERLEAVE = True

        def generate_inner(self, message: Any, dataset: str | None = None) -> str:
            names = {"image": "path", "text": "text"}
            content = [{"type": part["type"], names[part["type"]]: part["value"]} for part in message]
            inputs = processor.apply_chat_template([{"role": "user", "content": content}], **how)
            with torch.inference_mode():
                output = network.generate(**inputs, max_new_tokens=spec["tokens"], do_sample=False)
            return processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()

    return Wings()


MODELS = {
    "mixed": lambda spec: saying(replies.mixed(Path(spec["folder"]))),
    "choosing": lambda spec: saying(replies.choosing),
    "partial": lambda spec: saying(replies.partial(Path(spec["folder"]))),
    "worded": lambda spec: saying(replies.worded(Path(spec["folder"]))),
    "Yes": lambda spec: saying(replies.always("Yes")),
    "No": lambda spec: saying(replies.always("No")),
    "llava": llava,
    "wings": wings,
}

if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
