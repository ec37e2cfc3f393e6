#!/usr/bin/env bash
# lm-eval 0.4.13: in a process with LOCAL_RANK=1, simple_evaluate returns None, even if it is the only process.
#
# Expected: the results come back wherever the model says that it has rank 0 in a world of 1: the library asks it for both.
# Happens:  every request is computed, then the results are dropped unless LOCAL_RANK is 0 or unset too (it is there for torchrun with tensor
#           parallelism). Nothing is raised or logged. Where a launcher starts independent evaluations, one per device, it sets the variable
#           for each: all but the first of them get None after all the work.
# Seen:     see below.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages lm_eval==0.4.13

cat >evaluate.py <<'PY'
import json
import os
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager


class Constant(LM):
    """Prefers nothing; one process, and says so."""

    rank, world_size, scored = 0, 1, 0

    def loglikelihood(self, requests, **_):
        self.scored += len(requests)
        return [(-1.0, False) for _ in requests]

    def loglikelihood_rolling(self, requests, **_):
        raise NotImplementedError

    def generate_until(self, requests, **_):
        raise NotImplementedError


Path("questions.jsonl").write_text("\n".join(json.dumps({"question": f"{i}", "answer": 0}) for i in range(4)))
Path("questions.yaml").write_text(f"""
task: questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: {Path("questions.jsonl").absolute()}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: [a, b]
doc_to_target: answer
metric_list: [{{metric: acc}}]
""")
lm = Constant()
tasks = TaskManager(include_path=".", include_defaults=False)
results = simple_evaluate(lm, tasks=["questions"], task_manager=tasks, bootstrap_iters=0)
answer = None if results is None else sorted(results["results"])
print(f"LOCAL_RANK={os.environ.get('LOCAL_RANK')}: model of rank {lm.rank} of {lm.world_size}, {lm.scored} requests computed, results: {answer}")
PY
for rank in 0 1; do LOCAL_RANK=$rank "$python" evaluate.py 2>/dev/null; done | expect "LOCAL_RANK=0: model of rank 0 of 1, 8 requests computed, results: ['questions']
LOCAL_RANK=1: model of rank 0 of 1, 8 requests computed, results: None"
