#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.14.1: Phi-4-multimodal's vision tower is causal under SDPA wherever no image of the batch is padded.
#
# Expected: every patch of an image sees every other one, with every implementation of attention; an image has the same features whatever
#           is beside it.
# Happens:  the vision attention is marked as causal. If all patches of the batch are seen, the mask is dropped, and SDPA then takes the mark:
#           a patch sees the earlier ones only. Beside a padded image there is a mask, and the mark is not taken. Nothing is raised or
#           logged, so an image's features depend on its batch, and SDPA's alone are not eager's.
# Seen:     see below.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages transformers==5.23.0 torch==2.14.1

"$python" - <<'PY' 2>/dev/null | expect "eager, beside a whole image: as alone
eager, beside a padded image: as alone
eager: the first patch sees the last one
sdpa, beside a whole image: as alone
sdpa, beside a padded image: other features
sdpa: the first patch does not see the last one"
import torch
from transformers.models.phi4_multimodal.configuration_phi4_multimodal import Phi4MultimodalVisionConfig
from transformers.models.phi4_multimodal.modeling_phi4_multimodal import Phi4MultimodalVisionModel

torch.manual_seed(0)
config = Phi4MultimodalVisionConfig(
    hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, crop_size=32
)
model = Phi4MultimodalVisionModel(config).eval()
with torch.no_grad():
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.normal_(std=0.3)  # larger than at initialisation, so that a difference is no rounding
image = torch.randn(1, 3, 32, 32)
whole = torch.ones(1, 4, 4, dtype=torch.bool)
padded = whole.clone()
padded[:, :, 3:] = False  # the other image's last column of patches is padding


def difference(one, other):
    return ((one - other).abs().max() / one.abs().max()).item()


def verdict(value):
    return "as alone" if value < 1e-4 else "other features" if value > 0.1 else value


with torch.no_grad():
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        alone = model(image, patch_attention_mask=whole).last_hidden_state[0]
        other = torch.randn(1, 3, 32, 32)
        for name, mask in (("a whole image", whole), ("a padded image", padded)):
            beside = model(torch.cat([image, other]), patch_attention_mask=torch.cat([whole, mask])).last_hidden_state[0]
            print(f"{attention}, beside {name}: {verdict(difference(alone, beside))}")
        changed = image.clone()
        changed[:, :, 24:, 24:] += 1  # the last patch only
        first = model(changed, patch_attention_mask=whole).last_hidden_state[0, 0]
        print(f"{attention}: the first patch {'sees' if difference(alone[0], first) > 1e-4 else 'does not see'} the last one")
PY
