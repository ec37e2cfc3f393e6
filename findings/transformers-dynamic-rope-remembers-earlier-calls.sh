#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.14.1: with rope type "dynamic" a row's logits depend on the rows that were read before it.
#
# Expected: the same tokens give the same logits, without a cache, whatever the model read in earlier calls.
# Happens:  The rotary layer keeps the frequencies of the longest row so far. They are reset by a row shorter than max_position_embeddings
#           only: one of exactly that length, or a longer one, is read with the frequencies of the earlier row, in silence. So scores depend
#           on the order of the items. A call with one token before each row resets them.
# Seen:     of 48 positions, rows of 47, 48 and 60 tokens before and after a row of 150: same, other, other (differences above 1 nat).
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages transformers==5.23.0 torch==2.14.1

"$python" - <<'PY' 2>/dev/null | expect "47 tokens: the same logits
48 tokens: other logits
60 tokens: other logits"
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=100, initializer_range=0.4)
model = LlamaForCausalLM(LlamaConfig(**sizes, max_position_embeddings=48, rope_parameters=rope)).eval()


def logprobs(row):
    with torch.no_grad():
        return model(row, use_cache=False).logits[0, -1].log_softmax(-1)


for length in (47, 48, 60):
    row = torch.randint(0, 100, (1, length))
    logprobs(row[:, :1])
    before = logprobs(row)
    logprobs(torch.randint(0, 100, (1, 150)))
    difference = float((logprobs(row) - before).abs().max())
    print(f"{length} tokens: {'the same' if difference < 1e-6 else 'other' if difference > 1 else difference} logits")
PY
