"""What is known about a table of VLMEvalKit: its address, checksum and licence, and the download by VLMEvalKit's own function.

VLMEvalKit's package `__init__` files load every model, turn TLS verification off and seed torch, so they are not executed: empty modules
stand in for them while the few files that are needed are imported, and everything imported is taken out of `sys.modules` afterwards.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from iit_bench.data.snapshots import fetch_it
from iit_bench.errors import UserError

FIELD_LIMIT = 2**31 - 1  # characters of a table's cell; base64 images go far beyond csv's default
# Name of a data set -> the licence that its makers state; tables are named after it ("MMMU_DEV_VAL").
LICENCES = {"MMMU": "Apache-2.0", "MMBench": "Apache-2.0", "SEEDBench": "CC-BY-NC-4.0", "AI2D": "CC-BY-SA-4.0", "POPE": "MIT"}
LICENCES |= {"ScienceQA": "CC-BY-NC-SA-4.0", "HallusionBench": "BSD-3-Clause"}
_PACKAGES = ("", ".vlm", ".api", ".dataset", ".dataset.utils")
_INSTALL = "pip install --no-deps ms-vlmeval==0.0.20 && pip install sty tabulate validators"


def fetch(name: str) -> Path:
    """The file `$LMUData/NAME.tsv`, downloaded by VLMEvalKit where it is missing or has another checksum.

    Raises:
        UserError: VLMEvalKit is not installed, knows no multiple-choice or yes/no table of this name, or cannot download it.
    """
    with shells() as root:
        return download(name, *_address(name, root))


def download(name: str, url: str, md5: str) -> Path:
    """The file `$LMUData/NAME.tsv`, downloaded from `url` where it is missing or its md5 ("" = none known) differs. For use in `shells`.

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
            f"the file that {url} gave for {name!r} has not the checksum VLMEvalKit expects ({md5}); try again, or use --data-root"
        )
    os.replace(partial, path)
    return path


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
            continue  # a data set that needs packages which are not here
        for kind in vars(module).values():
            urls = getattr(kind, "DATASET_URL", None)
            asked = str(getattr(kind, "TYPE", ""))
            if isinstance(kind, type) and isinstance(urls, dict) and urls.get(name) and (asked.startswith("MCQ") or asked == "Y/N"):
                return urls[name], getattr(kind, "DATASET_MD5", {}).get(name) or ""
    raise UserError(
        f"VLMEvalKit has no multiple-choice or yes/no table called {name!r} with an address; "
        f"check the name, or put {name}.tsv into a folder and give it with --data-root"
    )


def installed() -> Path:
    """VLMEvalKit's folder; nothing of it is imported.

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
    """VLMEvalKit's folder, importable without its package `__init__` files; `sys.modules` and Pillow's limit are as before afterwards."""
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
        raise UserError(f"VLMEvalKit cannot be used ({error}): {_INSTALL}") from error
    finally:
        for key in [key for key in sys.modules if key.split(".")[0] == "vlmeval"]:
            del sys.modules[key]
        sys.modules.update(before)
        Image.MAX_IMAGE_PIXELS = pixels
