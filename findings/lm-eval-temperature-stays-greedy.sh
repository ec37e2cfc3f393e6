#!/usr/bin/env bash
# lm-eval 0.4.13 with transformers 5.23.0: a temperature alone changes nothing where the task sets do_sample: false, and is recorded.
#
# Expected: gen_kwargs="temperature=5.0" samples, or is refused beside the task's do_sample: false (most tasks that generate set it).
# Happens:  the temperature is merged into the task's settings and written to the results, do_sample stays false, and the replies are the
#           greedy ones. Who reads the results file takes them for samples. temperature=5.0,do_sample=True samples.
# Seen:     see below.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages lm_eval==0.4.13 transformers==5.23.0 torch==2.14.1 accelerate==1.15.0

"$python" - <<'PY' 2>/dev/null | expect "temperature=5.0: recorded temperature 5.0, do_sample False; replies are the greedy ones
temperature=5.0,do_sample=True: recorded temperature 5.0, do_sample True; replies are others"
import json
from pathlib import Path

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<eos>", "<unk>", *(f"w{i}" for i in range(62))])}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", unk_token="<unk>", pad_token="<eos>")
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
    bos_token_id=0, eos_token_id=0, pad_token_id=0,
)
model = LlamaForCausalLM(config).eval()
Path("questions.jsonl").write_text("\n".join(json.dumps({"question": f"w{i} w{i + 1} w{i + 2}", "answer": "w1"}) for i in range(8)))
Path("questions.yaml").write_text(f"""
task: questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: {Path("questions.jsonl").absolute()}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: [], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match}}]
""")


def run(gen_kwargs):
    tasks = TaskManager(include_path=".", include_defaults=False)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    results = simple_evaluate(lm, tasks=["questions"], task_manager=tasks, bootstrap_iters=0, gen_kwargs=gen_kwargs)
    return results["configs"]["questions"]["generation_kwargs"], [sample["resps"] for sample in results["samples"]["questions"]]


greedy = run(None)[1]
for given in ("temperature=5.0", "temperature=5.0,do_sample=True"):
    recorded, replies = run(given)
    same = "the greedy ones" if replies == greedy else "others"
    print(f"{given}: recorded temperature {recorded['temperature']}, do_sample {recorded['do_sample']}; replies are {same}")
PY
