#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.14.1: generate of a RoBERTa decoder reads its prompt at other positions than the model's own forward.
#
# Expected: the logits of the first generated token are those of a plain forward pass over the prompt.
# Happens:  generate gives position_ids from 0. RoBERTa's own positions begin at pad_token_id + 1, and forward without position_ids uses
#           these, as training did. The reply is that of another model, in silence. BERT, whose positions begin at 0, is right.
# Seen:     bert the same, roberta other (more than 1 nat apart).
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages transformers==5.23.0 torch==2.14.1

"$python" - <<'PY' 2>/dev/null | expect "bert: first token of generate and forward: the same logits
roberta: first token of generate and forward: other logits"
import torch
from transformers import AutoConfig, AutoModelForCausalLM

sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=100, initializer_range=0.4)
prompt = torch.randint(5, 100, (1, 8), generator=torch.Generator().manual_seed(0))
for family in ("bert", "roberta"):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **sizes, is_decoder=True, max_position_embeddings=64, eos_token_id=None)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        plain = model(prompt).logits[0, -1].log_softmax(-1)
        output = model.generate(prompt, max_new_tokens=2, do_sample=False, output_logits=True, return_dict_in_generate=True)
    difference = float((output.logits[0][0].log_softmax(-1) - plain).abs().max())
    print(f"{family}: first token of generate and forward: {'the same' if difference < 1e-4 else 'other' if difference > 1 else difference} logits")
PY
