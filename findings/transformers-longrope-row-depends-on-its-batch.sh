#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.14.1: in Phi-3's long-RoPE, a short row's logits depend on the longest row of its batch.
#
# Expected: with right padding and an attention mask, a row of 10 tokens has the logits that it has alone, whatever is beside it.
# Happens:  the short or the long factors are chosen once per call, by the largest position in it. Beside a row that is longer than
#           original_max_position_embeddings, the short row is computed with the long factors. Nothing is raised or logged, so scores
#           depend on the batch size and on the order of requests.
# Seen:     the same short row beside 12 tokens: equal up to rounding; beside 30 tokens (the original length is 16): different.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages transformers==5.23.0 torch==2.14.1

"$python" - <<'PY' 2>/dev/null | expect "beside 12 tokens: as alone
beside 30 tokens: other logits"
import torch
from transformers import Phi3Config, Phi3ForCausalLM

torch.manual_seed(0)
rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
config = Phi3Config(
    vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
    max_position_embeddings=64, original_max_position_embeddings=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.5,
    rope_parameters={**rope, "original_max_position_embeddings": 16},
)
model = Phi3ForCausalLM(config).eval()
short = list(range(3, 13))
with torch.no_grad():
    alone = model(torch.tensor([short])).logits[0]
    for length in (12, 30):
        ids = torch.tensor([short + [0] * (length - 10), list(range(3, 3 + length))])
        beside = model(ids, attention_mask=(ids != 0).long()).logits[0, :10]
        difference = (alone - beside).abs().max() / alone.abs().max()
        print(f"beside {length} tokens: {'as alone' if difference < 1e-4 else 'other logits' if difference > 0.1 else difference}")
PY
