#!/usr/bin/env bash
# transformers 5.23.0 with torchao 0.18.0: a vision tower that is named in modules_to_not_convert is quantised all the same.
#
# Expected: modules_to_not_convert=["vision_tower"] leaves the modules under "model.vision_tower" as they are, or the name is refused, since
#           it fits nothing.
# Happens:  a pattern counts only from the beginning of the whole path ("model.vision_tower"), as a regular expression from there, or at its
#           end. A name in the middle of the path fits nothing, without a warning: the tower is quantised, and the head too, which is left
#           alone only where no names are given. bitsandbytes' llm_int8_skip_modules is read by the same rule.
# Seen:     see below.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages transformers==5.23.0 torch==2.14.1 torchao==0.18.0 accelerate==1.15.0

"$python" - <<'PY' 2>/dev/null | expect "without names: language_model, multi_modal_projector, vision_tower
['vision_tower']: language_model, lm_head, multi_modal_projector, vision_tower
['model.vision_tower']: language_model, lm_head, multi_modal_projector
['.*vision_tower', 'lm_head']: language_model, multi_modal_projector"
import torch
from torchao.quantization import Int8WeightOnlyConfig
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, TorchAoConfig

shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
vision = CLIPVisionConfig(image_size=32, patch_size=16, projection_dim=32, **shape)
config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(vocab_size=64, **shape), image_token_index=3)
torch.manual_seed(0)
LlavaForConditionalGeneration(config).save_pretrained("model")

for names in (None, ["vision_tower"], ["model.vision_tower"], [".*vision_tower", "lm_head"]):
    quantised = TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=names)
    model = LlavaForConditionalGeneration.from_pretrained("model", quantization_config=quantised, device_map={"": "cpu"})
    found = {name.removeprefix("model.").split(".")[0] for name, weight in model.named_parameters() if type(weight) is not torch.nn.Parameter}
    print(f"{names or 'without names'}: {', '.join(sorted(found))}")
PY
