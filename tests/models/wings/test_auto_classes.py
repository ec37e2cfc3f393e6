"""A Wings folder loads by transformers' Auto classes, without a word."""

from __future__ import annotations

import sys

import pytest

from iit_bench.models.bundled import ASSETS
from tests import warm_processes

SCRIPT = """
import sys
import iit_bench.models.wings as wings
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
folder = sys.argv[1]
assert type(AutoConfig.from_pretrained(folder)).__name__ == "WingsConfig"
assert type(AutoModelForImageTextToText.from_pretrained(folder)) is wings.WingsForConditionalGeneration
assert type(AutoProcessor.from_pretrained(folder)) is wings.WingsProcessor
assert type(AutoImageProcessor.from_pretrained(folder)) is wings.WingsImageProcessor
AutoTokenizer.from_pretrained(folder)
"""


@pytest.mark.slow
def test_wings_folder_loads_by_auto_classes_without_a_warning():
    done = warm_processes.run([sys.executable, "-c", SCRIPT, ASSETS / "wings"], preload=warm_processes.MODELS)
    assert done.returncode == 0, done.stderr
    assert "model of type" not in done.stderr
