#!/usr/bin/env bash
# transformers 5.23.0 with torch 2.14.1: in Mllama, a row's logits depend on how many images the rows beside it have.
#
# Expected: a token before the first image sees no image, and a row with one image has the logits that it has alone, whatever is beside it.
# Happens:  for a token that may see no image, the row of the cross-attention's mask is all masked; it is then set to zero, so that the
#           token attends to every slot, also the padded ones. Only the MLP's output is masked again, not the attention's. Beside a row with
#           two images there are more padded slots, so the token gets another value, and by self-attention all later ones do. Llama 3.2
#           Vision's prompts have a token before the image: <|begin_of_text|>. Nothing is raised or logged.
# Seen:     see below.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages transformers==5.23.0 torch==2.14.1

"$python" - <<'PY' 2>/dev/null | expect "image first, beside one image: as alone
image first, beside two images: as alone
text first, beside one image: as alone
text first, beside two images: other logits
text first, another image: the token before it has other logits"
import torch
from transformers import MllamaConfig, MllamaForConditionalGeneration
from transformers.models.mllama.processing_mllama import convert_sparse_cross_attention_mask_to_dense, get_cross_attention_token_mask

IMAGE, TILES, SIDE = 64, 1, 16
torch.manual_seed(0)
config = MllamaConfig(
    vision_config={
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2, "image_size": SIDE,
        "patch_size": 8, "max_num_tiles": TILES, "intermediate_layers_indices": [0, 1], "vision_output_dim": 48,
        "supported_aspect_ratios": [[1, 1]],
    },
    text_config={
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 2, "cross_attention_layers": [1], "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    image_token_index=IMAGE,
)
model = MllamaForConditionalGeneration(config).eval()
with torch.no_grad():
    for name, weight in model.named_parameters():
        if "gate" in name:
            weight.fill_(1.0)  # zero at initialisation: no image would count
        elif weight.ndim > 1:
            weight.normal_(std=0.3)
pictures = torch.randn(4, TILES, 3, SIDE, SIDE)


def logits(*rows):
    """Of the first of rows, (token ids, numbers of pictures), batched as the processor does."""
    most = max(len(numbers) for _, numbers in rows)
    pixels = torch.zeros(len(rows), most, TILES, 3, SIDE, SIDE)
    ratios = torch.zeros(len(rows), most, dtype=torch.long)
    tiles = torch.zeros(len(rows), most, TILES, dtype=torch.long)
    tiles[:, :, 0] = 1
    for row, (_, numbers) in enumerate(rows):
        pixels[row, : len(numbers)], ratios[row, : len(numbers)] = pictures[numbers], 1
    sparse = [get_cross_attention_token_mask(ids, IMAGE) for ids, _ in rows]
    dense = convert_sparse_cross_attention_mask_to_dense(sparse, [[TILES] * len(numbers) for _, numbers in rows], TILES, len(rows[0][0]))
    ids = torch.tensor([ids for ids, _ in rows])
    with torch.no_grad():
        return model(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, aspect_ratio_ids=ratios, aspect_ratio_mask=tiles,
            cross_attention_mask=torch.tensor(dense),
        ).logits[0]


def verdict(one, other, same):
    difference = ((one - other).abs().max() / one.abs().max()).item()
    return same if difference < 1e-4 else "other logits" if difference > 0.01 else difference


for name, ids in (("image first", [IMAGE, 1, 5, 6, 7, 8]), ("text first", [1, IMAGE, 5, 6, 7, 8])):
    alone = logits((ids, [0]))
    one, two = logits((ids, [0]), (ids, [1])), logits((ids, [0]), ([1, IMAGE, 9, IMAGE, 9, 9], [1, 2]))
    print(f"{name}, beside one image: {verdict(alone, one, 'as alone')}")
    print(f"{name}, beside two images: {verdict(alone, two, 'as alone')}")
first = verdict(alone[0], logits((ids, [3]))[0], "the same logits")
print(f"text first, another image: the token before it has {first}")
PY
