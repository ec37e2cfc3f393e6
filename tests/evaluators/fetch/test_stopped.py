"""`iit-bench fetch`, killed before its changes of the file system: the same command then completes the data root (docs/reliability.md)."""

from __future__ import annotations

import os

import pytest

from tests.reliability.steps import Steps
from tests.reliability.tally import Tally

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")]


def test_killed_at_any_call_the_same_command_completes_the_data_root(server, tmp_path, record_property):
    words = ["fetch", "gsm8k", "mmlu_anatomy", "--yes", "--quiet", "--data-root", str(tmp_path / "work" / "data")]
    tally = Tally("killed at a call: fetch", record_property)
    assert Steps(tmp_path / "work", words, tally=tally).check(None if "TORTURE" in os.environ else 2)
