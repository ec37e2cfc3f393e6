"""Wings, the reference system: a decoder whose layers carry a visual and a textual learner, weighed by a router (WINGS.md).

Reading order: `configuration` (what a model is made of), `lorra` (a learner), `router`, `attention` (the router's logits on the fused
attention), `layout` (positions, images, who sees whom), `step` (what all layers share in one pass), `decoder` (one layer, all layers),
`decoding` (single tokens, faster), `vision` (pixels to features), `modeling` (the transformers model), `cache`, `processor` (chats to
tensors, as transformers has it); `chat` and `adapter` put it behind the model contract.
What the authors' code does differently: `released` (rows, keys, masks), `conversation` (prompts), `official` and `conversion` (names,
configuration and weights of their checkpoints), `adapter_released`.
"""

from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.processor import WingsImageProcessor, WingsProcessor

__all__ = ["WingsConfig", "WingsForConditionalGeneration", "WingsImageProcessor", "WingsProcessor"]
