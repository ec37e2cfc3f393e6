"""A folder that cannot be written is refused before torch is imported and before other processes are started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iit_bench.cli import main, processes
from iit_bench.errors import UserError
from iit_bench.lab.run import LabOptions, run_lab


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder below a file; importing torch fails the test."""
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(sys.modules, "torch", None)
    return tmp_path / "file" / "lab"


def test_before_torch(out: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write '.*lab/cells': .* is a file, not a folder"):
        run_lab(LabOptions(grid="quick", out=out), progress=False)


def test_before_other_processes(out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(processes, "run_processes", lambda *_: pytest.fail("started"))
    assert main(["lab", "quick", "--out", str(out), "--processes", "2"]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
