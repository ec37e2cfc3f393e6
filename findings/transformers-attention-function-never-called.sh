#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.14.1: BLOOM accepts a registered attention function by name and never calls it.
#
# Expected: a model made with attn_implementation="counted" calls the function registered under that name in AttentionInterface, as Llama
#           does, or refuses the name.
# Happens:  BLOOM's configuration records "counted", its layers keep their own attention, and nothing is raised or logged. A function that
#           changes or measures attention then seems to work and does nothing: count its calls.
# Seen:     llama 2 calls for 2 layers, bloom 0.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages transformers==5.23.0 torch==2.14.1

"$python" - <<'PY' 2>/dev/null | expect "llama: recorded as counted, 2 calls for 2 layers
bloom: recorded as counted, 0 calls for 2 layers"
import torch
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

calls = 0


def counted(*arguments, **more):
    global calls
    calls += 1
    return sdpa_attention_forward(*arguments, **more)


AttentionInterface.register("counted", counted)
llama = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, vocab_size=32)
for family, sizes in {"llama": llama, "bloom": dict(hidden_size=16, n_layer=2, n_head=2, vocab_size=32)}.items():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes), attn_implementation="counted")
    calls = 0
    model(torch.tensor([[1, 2, 3]]))
    print(f"{family}: recorded as {model.config._attn_implementation}, {calls} calls for 2 layers")
PY
