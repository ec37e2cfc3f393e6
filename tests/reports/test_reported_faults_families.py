"""Faults that were reported about what a page shows of a model, one test each."""

from __future__ import annotations

from reports.shared import run_facts


def test_settings_that_determine_answers_are_in_a_runs_card():
    """What greedy replies set aside, and how images are processed, was nowhere on the page."""
    image_processing = {"processor": "Qwen2VLProcessor", "backend": "torchvision", "pillow": "13.0.0"}
    settings = {"greedy_without": {"repetition_penalty": 1.05}, "image_processing": image_processing}
    facts = dict(run_facts({"suite": "iit", "model": {"name": "hf:x", "settings": settings}}, "runs/x"))
    assert "repetition_penalty 1.05" in facts["settings"]
    assert "backend torchvision" in facts["settings"]
    assert dict(run_facts({"suite": "iit", "model": {"name": "hf:x", "settings": {}}}, "runs/x"))["settings"] == "none"
