"""VLMEvalKit's own data sets, inference loop and scoring, with any of our models in the place of its models.

Its package `__init__` files load every model, turn TLS verification and gradients off and seed torch. They are never executed: see
`iit_bench.tools.vlmevalkit.shells`. What the remaining files do to a process stays in the process that `evaluators.vqa` starts for it.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import GenerateRequest, Model
from iit_bench.tools.vlmevalkit import shells
from iit_bench.types import Image, Message

FAILED = "Failed to obtain answer via API."  # VLMEvalKit's own mark of an answer that never came; matched with no choice
MAX_NEW_TOKENS = 512
DATA_FOLDER = "LMUData"  # environment variable: where VLMEvalKit looks for tables and puts decoded images
USERS_DATA = "IIT_BENCH_LMUDATA"  # environment variable of the worker: the caller's $LMUData, for downloads
# A data set's name in VLMEvalKit's files: the key of an address.
ADDRESSED = re.compile(r"""['"]([\w.+\-]+)['"]\s*:\s*\(?\s*f?['"](?:https?://|/)""")
_SEARCHED_FIRST = ("dataset.image_mcq", "dataset.image_yorn", "dataset.image_vqa", "dataset.image_shortqa")

VlmevalMessage = Sequence[Mapping[str, str]]  # [{"type": "image", "value": path} | {"type": "text", "value": text}, …]
Answer = Callable[[VlmevalMessage, str], str]  # (message, data set) -> reply


# ---------------------------------------------------------------- the model


def vlmeval_model(answer: Answer) -> Any:
    """A `vlmeval.vlm.base.BaseModel` whose replies `answer` gives; VLMEvalKit must be importable when it is made, not before."""
    base = import_module("vlmeval.vlm.base").BaseModel

    class Adapter(base):  # type: ignore[misc, valid-type]
        INTERLEAVE = True

        def generate_inner(self, message: VlmevalMessage, dataset: str | None = None) -> str:
            return answer(message, dataset or "")

    return Adapter()


def as_vlmeval_model(model: Model, max_new_tokens: int = MAX_NEW_TOKENS, system_prompt: str = "") -> Any:
    """Any of our models as one of VLMEvalKit's, asked item by item; for use in VLMEvalKit's own scripts."""

    def answer(message: VlmevalMessage, dataset: str) -> str:
        try:
            return model.generate([generate_request(message, max_new_tokens, system_prompt)])[0].text
        except ItemError as error:
            return f"{FAILED} {error}"

    return vlmeval_model(answer)


def generate_request(
    message: VlmevalMessage, max_new_tokens: int, system_prompt: str = "", read: Callable[[str], Image] | None = None
) -> GenerateRequest:
    """VLMEvalKit's message as one user turn, parts in reading order; `read` loads an image from its path."""
    read = read or (lambda path: Image(Path(path).read_bytes()))
    parts = tuple(read(part["value"]) if part["type"] == "image" else part["value"] for part in message)
    system = (Message("system", (system_prompt,)),) if system_prompt else ()
    return GenerateRequest((*system, Message("user", parts)), max_new_tokens)


# ---------------------------------------------------------------- VLMEvalKit's files


@contextmanager
def kit(judge: str = "exact_matching") -> Iterator[SimpleNamespace]:
    """VLMEvalKit's inference loop and the names that its data set files import, importable while the context is open.

    Three things of it are exchanged for safe ones: `eval` on cells of a table reads literals only, pools of processes are pools of
    threads, and the file that circular evaluation leaves in /tmp has a name of its own and is removed.

    Raises:
        UserError: VLMEvalKit is not installed, or the judge model that is asked for does not work.
    """
    with shells() as root:
        _module("vlmeval.config", supported_VLM={})
        sys.modules["vlmeval.dataset"].DATASET_TYPE = lambda dataset, default="MCQ": default  # type: ignore[attr-defined]
        misc, files = import_module("vlmeval.smp.misc"), import_module("vlmeval.smp.file")
        _module("vlmeval.tools", LOCALIZE=functools.partial(_localize, files))
        sys.modules["vlmeval.dataset.utils"].build_judge = _no_judge  # type: ignore[attr-defined]
        if judge != "exact_matching":
            _load_judge(judge)
        inference = import_module("vlmeval.inference")
        matching = import_module("vlmeval.dataset.utils.multiple_choice")
        open_answers = import_module("vlmeval.dataset.utils.vqa_eval")
        for module in (misc, open_answers):
            module.eval = ast.literal_eval  # type: ignore[attr-defined]
        stamp = f"iit-bench-{uuid4().hex}"
        matching.timestr = lambda: stamp  # type: ignore[attr-defined]
        try:
            yield SimpleNamespace(root=root, infer_data_job=inference.infer_data_job, matching=matching, open_answers=open_answers)
        finally:
            for ending in ("tsv", "json", "xlsx", "pkl"):
                Path(f"/tmp/{stamp}.{ending}").unlink(missing_ok=True)


def _module(name: str, **names: Any) -> None:
    """A stand-in for a module that would import every model of VLMEvalKit."""
    module = ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module


def _no_judge(**settings: Any) -> Any:
    raise RuntimeError("this data set is scored by a judge model alone; name one with --judge")


def _load_judge(name: str) -> None:
    """Make VLMEvalKit's judge models usable; one that does not answer is refused here, where VLMEvalKit would fall back in silence."""
    del sys.modules["vlmeval.api"]  # the stand-in
    try:
        import_module("vlmeval.api")
        build = import_module("vlmeval.dataset.utils.judge_util").build_judge
    except ImportError as error:
        raise UserError(f"a judge model needs the whole of VLMEvalKit ({error}): pip install ms-vlmeval, or leave out --judge") from error
    if not build(model=name).working():
        raise UserError(f"judge model {name!r} does not answer; check its key and address, or leave out --judge")
    sys.modules["vlmeval.dataset.utils"].build_judge = build  # type: ignore[attr-defined]


def tame(kind: type) -> None:
    """Make a data set class's file read cells as literals, and start threads where it would start 16 copies of this process."""
    module: Any = sys.modules[kind.__module__]
    module.eval = ast.literal_eval
    if hasattr(module, "mp"):
        module.mp = SimpleNamespace(Pool=ThreadPool)


def _localize(files: Any, table: str, local: str) -> None:
    """VLMEvalKit's LOCALIZE: the images of a table beyond 1 GB become files."""
    files.mp = SimpleNamespace(Pool=ThreadPool)
    files.dump(files.localize_df(files.load(table), os.path.splitext(os.path.basename(table))[0]), local)


def dataset_class(name: str, root: Path) -> type | None:
    """VLMEvalKit's class for the image data set `name`, or None where it knows no data set of that name.

    Raises:
        UserError: it knows one, but of another kind, or in a file that needs a package that is not here.
    """
    listed = [root / (place.replace(".", "/") + ".py") for place in _SEARCHED_FIRST]
    why = ""
    for file in (*listed, *sorted((root / "dataset").rglob("*.py"))):
        text = file.read_text(encoding="utf-8", errors="replace")
        if file.name == "__init__.py" or (f"'{name}'" not in text and f'"{name}"' not in text):
            continue
        published = name in ADDRESSED.findall(text)
        try:
            module = import_module(".".join(("vlmeval", *file.relative_to(root).with_suffix("").parts)))
        except ImportError as error:
            why = f"needs what is not installed here ({error}): pip install ms-vlmeval" if published else why
            continue
        for kind in vars(module).values():
            if isinstance(kind, type) and getattr(kind, "MODALITY", "") == "IMAGE" and name in _supported(kind):
                return kind
        why = why or ("is not a data set of images; choose another" if published else "")
    if why:
        raise UserError(f"VLMEvalKit's data set {name!r} {why}")
    return None


def _supported(kind: Any) -> Sequence[str]:
    try:
        return list(kind.supported_datasets())
    except (AttributeError, TypeError):
        return []
