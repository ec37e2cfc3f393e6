#!/usr/bin/env bash
# every-eval-ever 0.3.0: a samples file whose text has a line separator (U+2028) is valid by itself, and "invalid JSON" beside its summary.
#
# Expected: a line of a JSONL file ends at a line feed; U+2028, U+2029 and U+0085 may be inside a JSON text as they are (RFC 8259), and
#           json.dumps(..., ensure_ascii=False) writes them so.
# Happens:  the check of the summary splits the samples by str.splitlines(), which breaks a line at these characters, too; the check of the
#           samples themselves does not.
# Seen:     the four lines below. With U+2028 written as an escape, all are valid.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages pydantic==2.14.3 rich==15.0.0 jsonschema==4.26.0
# The wheel asks for Python 3.12; its validator runs on 3.11.
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python ${PIP_ARGUMENTS:-} --target "$work/eee" \
    every-eval-ever==0.3.0 2>/dev/null

PYTHONPATH=$work/eee "$python" - <<'PY' 2>/dev/null | expect "a space, summary: valid
a space, samples: valid
U+2028, summary: samples line 1 is invalid JSON: Unterminated string starting at
U+2028, samples: valid"
import contextlib
import io
import json
from pathlib import Path

from every_eval_ever.validate import main

folder, name = Path("data/rings/lab/model"), "9b2c1d34-5e6f-4a7b-8c9d-0e1f2a3b4c5d"
folder.mkdir(parents=True)
shared = {"schema_version": "0.3.0", "evaluation_id": "rings/model/0"}
unknown = {"deployment_type": "unknown", "model_availability": "unknown"}
metric = {"lower_is_better": False, "score_type": "continuous", "min_score": 0, "max_score": 1}
result = {"evaluation_name": "rings", "source_data": {"dataset_name": "rings", "source_type": "other"}, "metric_config": metric}
summary = {
    **shared,
    "retrieved_timestamp": "0",
    "source_metadata": {"source_type": "evaluation_run", "source_organization_name": "A lab", "evaluator_relationship": "other"},
    "eval_library": {"name": "rings", "version": "1"},
    "model_info": {"name": "model", "id": "lab/model", "additional_details": unknown},
    "evaluation_results": [{**result, "score_details": {"score": 1.0}}],
    "detailed_evaluation_results": {"format": "jsonl", "file_path": f"{folder}/{name}_samples.jsonl", "total_rows": 1},
}
(folder / f"{name}.json").write_text(json.dumps(summary))
for label, character in (("a space", " "), ("U+2028", "\u2028")):
    sample = {
        **shared,
        "model_id": "lab/model",
        "evaluation_name": "rings",
        "sample_id": "1",
        "interaction_type": "single_turn",
        "input": {"raw": f"Which{character}ring?", "reference": ["left"]},
        "output": {"raw": ["left"]},
        "answer_attribution": [],
        "evaluation": {"score": 1.0, "is_correct": True},
    }
    (folder / f"{name}_samples.jsonl").write_text(json.dumps(sample, ensure_ascii=False) + "\n", encoding="utf-8")
    for kind, file in (("summary", f"{name}.json"), ("samples", f"{name}_samples.jsonl")):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            main(["--format", "json", str(folder / file)])
        errors = json.loads(shown.getvalue())[0]["errors"]
        print(f"{label}, {kind}:", errors[0]["msg"].partition(": ")[2] if errors else "valid")
PY
