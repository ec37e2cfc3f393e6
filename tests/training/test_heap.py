"""Memory that a pass frees is there for the next pass, without a fault of a page."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PASSES = """
import resource, sys
from iit_bench.training import heap

if sys.argv[1] == "kept":
    assert heap.keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"1" * (16 << 20) for _ in range(8)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_is_taken_again_has_its_pages() -> None:
    def faults(kind: str) -> int:
        return int(subprocess.run([sys.executable, "-c", PASSES, kind], capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < 100 < 10_000 < faults("returned")  # 128 MB are 32,768 pages
