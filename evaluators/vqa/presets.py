"""Names that `--tasks` of suite vqa takes: presets, VLMEvalKit's image data sets, tables in a folder, and easy-VQA."""

from __future__ import annotations

import functools
from pathlib import Path

from iit_bench.errors import UserError
from iit_bench.tools.vlmevalkit import ADDRESSED, installed

EASYVQA = "easyvqa"  # the official test split of easy-VQA, written as a table of VLMEvalKit
PRESETS: dict[str, tuple[str, ...]] = {
    "wings-vqa": (
        "MMMU_DEV_VAL",
        "MME",
        "MMBench_DEV_EN",
        "MMBench_DEV_CN",
        "ScienceQA_TEST",
        "SEEDBench_IMG",
        "AI2D_TEST",
        "HallusionBench",
    )
}


def known_tasks(data_root: Path | None = None) -> set[str]:
    """Names of data sets that VLMEvalKit has an address for, of tables in `data_root`, and `easyvqa`. VLMEvalKit is not imported.

    Raises:
        UserError: VLMEvalKit is not installed, or `data_root` does not exist.
    """
    root = installed()
    if data_root is not None and not data_root.is_dir():
        raise UserError(f"--data-root {str(data_root)!r} is not a folder; give the folder that has the tables")
    tables = [path.stem for folder in (data_root, data_root / "LMUData") for path in folder.glob("*.tsv")] if data_root else []
    return {*_published(root), *tables, EASYVQA}


@functools.cache
def _published(root: Path) -> frozenset[str]:
    """Names of data sets that VLMEvalKit has an address for, in some 400 files."""
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in (root / "dataset").rglob("*.py"))
    return frozenset(name for text in texts for name in ADDRESSED.findall(text))
