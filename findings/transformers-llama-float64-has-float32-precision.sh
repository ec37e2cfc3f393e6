#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.14.1: a Llama in float64 has logits of type float64 that are right to float32's precision only.
#
# Expected: model.double() computes in double precision, so that it can be the reference which a faster or fused version is checked against.
# Happens:  Norms and rotary angles are computed in float32, whatever the model's type (LlamaRMSNorm.forward, LlamaRotaryEmbedding.forward),
#           and their results are turned into float64 (eager attention does so with its softmax, too). The logits' type says double, their
#           error is that of single precision: a bound below about 1e-7, or finite differences, measure these roundings.
# Seen:     with sdpa, against the same weights with norms and angles in float64, an error between 1e-9 and 1e-5 of the largest logit; with
#           both in float64, a row alone and in a batch of five differ by less than 1e-13.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages transformers==5.23.0 torch==2.14.1

"$python" - <<'PY' 2>/dev/null | expect "logits are torch.float64
as released: right to single precision
norms and angles in float64: right to double precision"
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

torch.manual_seed(0)
sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=100, initializer_range=0.4)
config = LlamaConfig(**sizes, attn_implementation="sdpa")
model = LlamaForCausalLM(config).double().eval()
rows = torch.randint(0, 100, (1, 40))


def logits(times=1):
    with torch.no_grad():
        return model(rows.repeat(times, 1), use_cache=False).logits[0]


def norm(self, hidden):
    return self.weight * hidden * (hidden.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


def angles(self, hidden, position_ids):
    half = torch.arange(0, 8, 2, dtype=torch.float64) / 8
    turned = position_ids[:, :, None].double() / 10000.0**half
    both = torch.cat([turned, turned], -1)
    return both.cos(), both.sin()


def precision(one, other):
    error = float((one - other).abs().max() / other.abs().max())
    return "double" if error < 1e-13 else "single" if 1e-9 < error < 1e-5 else str(error)


released = logits()
print("logits are", released.dtype)
modeling_llama.LlamaRMSNorm.forward = norm
modeling_llama.LlamaRotaryEmbedding.forward = angles
exact = logits()
print("as released: right to", precision(released, exact), "precision")
print("norms and angles in float64: right to", precision(logits(times=5), exact), "precision")  # sums in another order
PY
