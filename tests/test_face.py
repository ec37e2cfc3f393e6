"""`import iit_bench` is instant, and its few names are the functions behind the commands."""

from __future__ import annotations

import subprocess
import sys

import pytest

import iit_bench


def test_importing_the_package_imports_no_room():
    code = "import sys, iit_bench; print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'pyarrow', 'numpy', 'builders'}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_public_name_is_there():
    from builders.build import build
    from evaluators.iit.evaluate import evaluate

    assert all(callable(getattr(iit_bench, name)) for name in iit_bench.__all__)
    assert (iit_bench.build, iit_bench.evaluate) == (build, evaluate)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = iit_bench.nothing
