"""Wings, the reference system (docs/spec/wings.md#part-b-strict, #part-a-released).

A decoder whose layers carry a visual and a textual learner, weighed by a router.

Reading order: `configuration` (the parts and sizes of a model), `state` (the records and the letters of shapes), `lorra` (a learner),
`router`, `attention` (the router's logits on the fused attention), `layout` (positions, images, visibility), `step` (what all layers share
in one pass), `decoder` (one layer, all layers), `fused_layer` (the same in training, faster), `decoding` (single tokens, faster), `cache`,
`vision` (pixels to features), `modeling` (the transformers model), `processor` with `templates` (chats to tensors for transformers). Behind
the model contract: `load` (a checkpoint by name and options), `encoding` (chats to token ids), `adapter` (scores and replies).
What the authors' code does differently is in `released/`: `rows` (rows, keys, masks), `scripts` (prompts), `names` and `checkpoint` (names,
configuration and weights of their checkpoints), `adapter`.
"""

from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.processor import WingsImageProcessor, WingsProcessor

__all__ = ["WingsConfig", "WingsForConditionalGeneration", "WingsImageProcessor", "WingsProcessor"]
