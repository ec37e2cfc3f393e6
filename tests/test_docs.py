"""Pages that scripts make are up to date."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.skipif(importlib.util.find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")
def test_the_page_of_tasks_is_what_its_script_makes():
    made = runpy.run_path(str(DOCS / "make_tasks.py"))["page"]()
    assert made == (DOCS / "tasks.md").read_text(encoding="utf-8"), "run `python docs/make_tasks.py`"
