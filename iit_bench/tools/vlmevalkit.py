"""VLMEvalKit's own files, imported one by one: tables (address, checksum, licence, download), data set classes, the inference loop.

VLMEvalKit's package `__init__` files load every model, turn TLS verification and gradients off and seed torch, so they are never executed:
empty modules stand in for them while the few files that are needed are imported, and everything imported is taken out of `sys.modules`
afterwards. What the inference loop (`kit`) does to a process stays in the worker process of `evaluators.vqa`.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

from iit_bench.data.snapshots import fetch_it
from iit_bench.errors import UserError, one_line
from iit_bench.tools.text_cells import TextCells

FAILED = "Failed to obtain answer via API."  # VLMEvalKit's own mark of a reply that never came; no choice matches it
DATA_FOLDER = "LMUData"  # environment variable: where VLMEvalKit looks for tables and puts decoded images
USERS_DATA = "IIT_BENCH_LMUDATA"  # environment variable of the worker: the caller's $LMUData, for downloads
# A data set's name in VLMEvalKit's files: the key of an address.
ADDRESSED = re.compile(r"""['"]([\w.+\-]+)['"]\s*:\s*\(?\s*f?['"](?:https?://|/)""")
FIELD_LIMIT = 2**31 - 1  # characters of a table's cell; base64 images go far beyond csv's default
# Name of a data set -> the licence that its makers state; tables are named after it ("MMMU_DEV_VAL").
LICENCES = {"MMMU": "Apache-2.0", "MMBench": "Apache-2.0", "SEEDBench": "CC-BY-NC-4.0", "AI2D": "CC-BY-SA-4.0", "POPE": "MIT"}
LICENCES |= {"ScienceQA": "CC-BY-NC-SA-4.0", "HallusionBench": "BSD-3-Clause"}
_SEARCHED_FIRST = ("dataset.image_mcq", "dataset.image_yorn", "dataset.image_vqa", "dataset.image_shortqa")
_PACKAGES = ("", ".vlm", ".api", ".dataset", ".dataset.utils")
_INSTALL = "pip install --no-deps ms-vlmeval==0.0.20 && pip install sty tabulate validators"


def fetch(name: str) -> Path:
    """The file `$LMUData/NAME.tsv`, downloaded by VLMEvalKit if it is missing or has another checksum.

    Raises:
        UserError: VLMEvalKit is not installed, knows no multiple-choice or yes/no table of this name, or cannot download it.
    """
    with shells() as root:
        return download(name, *_address(name, root))


def download(name: str, url: str, md5: str) -> Path:
    """The file `$LMUData/NAME.tsv`, downloaded from `url` if it is missing or its md5 ("" = none known) differs. For use in `shells`.

    Raises:
        UserError: it cannot be downloaded, or has another checksum.
    """
    files = import_module("vlmeval.smp")
    path = Path(files.LMUDataRoot()) / f"{name}.tsv"
    if path.is_file() and (not md5 or files.md5(str(path)) == md5):
        return path
    partial = path.with_name(f".{name}.{os.getpid()}.partial")
    try:
        files.download_file(url, str(partial))
    except Exception as error:  # VLMEvalKit raises a bare Exception when a download fails
        partial.unlink(missing_ok=True)
        raise UserError(
            f"VLMEvalKit cannot download {name!r} from {url}; go online, or {fetch_it(name)} and give --data-root DIR"
        ) from error
    if md5 and files.md5(str(partial)) != md5:
        partial.unlink()
        raise UserError(
            f"the file that {url} gave for {name!r} does not have the checksum that VLMEvalKit states ({md5}); retry, or use --data-root"
        )
    os.replace(partial, path)
    return path


def local_table(name: str, data_root: Path) -> Path:
    """The file NAME.tsv in a folder of tables or its folder LMUData.

    Raises:
        UserError: neither holds it.
    """
    for path in (data_root / f"{name}.tsv", data_root / DATA_FOLDER / f"{name}.tsv"):
        if path.is_file():
            return path
    raise UserError(f"there is no table {name}.tsv in {str(data_root)!r} or its folder {DATA_FOLDER}; {fetch_it(name, data_root)}")


def licence_of_table(table: str) -> str:
    """The licence of a table's data set as its makers state it; "unknown" if they state none or it is not listed here."""
    return next((licence for start, licence in LICENCES.items() if table.startswith(start)), "unknown")


def _address(name: str, root: Path) -> tuple[str, str]:
    """URL and md5 ("" = none known) of a table, from the class of VLMEvalKit that lists it."""
    for file in sorted((root / "dataset").rglob("*.py")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if f"'{name}'" not in text and f'"{name}"' not in text:
            continue
        try:
            module = import_module(".".join(("vlmeval", *file.relative_to(root).with_suffix("").parts)))
        except ImportError:
            continue  # a data set that needs packages which are not installed
        for kind in vars(module).values():
            urls = getattr(kind, "DATASET_URL", None)
            task_type = str(getattr(kind, "TYPE", ""))
            if isinstance(kind, type) and isinstance(urls, dict) and urls.get(name) and (task_type.startswith("MCQ") or task_type == "Y/N"):
                return urls[name], getattr(kind, "DATASET_MD5", {}).get(name) or ""
    raise UserError(
        f"VLMEvalKit has no multiple-choice or yes/no table called {name!r} with an address; "
        f"check the name, or put {name}.tsv into a folder and give it with --data-root"
    )


def installed() -> Path:
    """VLMEvalKit's folder. VLMEvalKit is not imported.

    Raises:
        UserError: VLMEvalKit is not installed.
    """
    loaded = sys.modules.get("vlmeval")  # a full installation that is imported already, or a stand-in of `shells`
    spec = None if loaded else find_spec("vlmeval")
    places = list(loaded.__path__ if loaded else (spec and spec.submodule_search_locations) or ())
    if not places:
        raise UserError(f"VLMEvalKit is not installed, which vlmeval: sources without --data-root and --suite vqa need: {_INSTALL}")
    return Path(places[0])


@contextmanager
def shells() -> Iterator[Path]:
    """Yields VLMEvalKit's folder, importable without its package `__init__` files; restores `sys.modules` and Pillow's limit on pixels."""
    from PIL import Image

    pixels = Image.MAX_IMAGE_PIXELS  # vlmeval.smp raises this limit
    root = installed()
    before = {key: module for key, module in sys.modules.items() if key.split(".")[0] == "vlmeval"}
    for key in before:
        del sys.modules[key]
    for package in _PACKAGES:
        shell = ModuleType("vlmeval" + package)
        shell.__path__ = [str(root.joinpath(*package.split(".")[1:]))]
        sys.modules["vlmeval" + package] = shell
    utils = sys.modules["vlmeval.dataset.utils"]
    utils.__dict__.update(DEBUG_MESSAGE="", build_judge=None)  # names that data set files import, of no use here
    try:
        yield root
    except ImportError as error:
        raise UserError(f"VLMEvalKit cannot be used ({one_line(error)}): {_INSTALL}") from error
    finally:
        for key in [key for key in sys.modules if key.split(".")[0] == "vlmeval"]:
            del sys.modules[key]
        sys.modules.update(before)
        Image.MAX_IMAGE_PIXELS = pixels


# ---------------------------------------------------------------- the inference loop and the data sets


@contextmanager
def kit(judge: str = "exact_matching") -> Iterator[SimpleNamespace]:
    """Yields VLMEvalKit's inference loop, with the names that its data set files import importable while the context is open.

    Four parts of it are replaced: cells of tables are read as text (`text_cells`), `eval` on them reads literals only, pools of processes
    are pools of threads, and the file that circular evaluation leaves in /tmp has a unique name and is removed.

    Raises:
        UserError: VLMEvalKit is not installed, or the judge model does not work.
    """
    with shells() as root:
        _module("vlmeval.config", supported_VLM={})
        sys.modules["vlmeval.dataset"].DATASET_TYPE = lambda dataset, default="MCQ": default  # type: ignore[attr-defined]
        misc, files = import_module("vlmeval.smp.misc"), import_module("vlmeval.smp.file")
        cells = files.pd = TextCells()  # type: ignore[attr-defined]
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
            yield SimpleNamespace(
                root=root, infer_data_job=inference.infer_data_job, matching=matching, open_answers=open_answers, cells=cells
            )
        finally:
            for ending in ("tsv", "json", "xlsx", "pkl"):
                Path(f"/tmp/{stamp}.{ending}").unlink(missing_ok=True)


def _module(name: str, **names: Any) -> None:
    """A stand-in for a module that would import every model of VLMEvalKit."""
    module = ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module


def _no_judge(**settings: Any) -> Any:
    raise RuntimeError("only a judge model can score this data set; name one with --judge")


def _load_judge(name: str) -> None:
    """Make VLMEvalKit's judge models usable; refuse one that does not answer, where VLMEvalKit would silently score without it."""
    del sys.modules["vlmeval.api"]  # the stand-in
    try:
        import_module("vlmeval.api")
        build = import_module("vlmeval.dataset.utils.judge_util").build_judge
    except ImportError as error:
        raise UserError(
            f"a judge model needs all of VLMEvalKit ({one_line(error)}): pip install ms-vlmeval, or leave out --judge"
        ) from error
    if not build(model=name).working():
        raise UserError(f"judge model {name!r} does not answer; check its key and address, or leave out --judge")
    sys.modules["vlmeval.dataset.utils"].build_judge = build  # type: ignore[attr-defined]


def tame(kind: type) -> None:
    """Make the file of a data set class read cells as literals, and start threads in place of 16 copies of this process."""
    module: Any = sys.modules[kind.__module__]
    module.eval = ast.literal_eval
    if hasattr(module, "mp"):
        module.mp = SimpleNamespace(Pool=ThreadPool)


def _localize(files: Any, table: str, local: str) -> None:
    """VLMEvalKit's LOCALIZE: write the images of a table beyond 1 GB to files."""
    files.mp = SimpleNamespace(Pool=ThreadPool)
    files.dump(files.localize_df(files.load(table), os.path.splitext(os.path.basename(table))[0]), local)


def dataset_class(name: str, root: Path) -> type | None:
    """VLMEvalKit's class for the image data set `name`, or None if it knows no data set of that name.

    Raises:
        UserError: it knows one, but of another modality, or in a file that needs a package that is not installed.
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
            why = f"needs what is not installed here ({one_line(error)}): pip install ms-vlmeval" if published else why
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
