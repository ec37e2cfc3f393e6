"""Memory of one training step on one device, before anything is trained (docs/how-to/train.md#memory).

Weights, gradients and moments are counted exactly. Activations follow from what the layers keep for the backward pass, so they depend on
torch and transformers: the formula of `_per_token` was compared with what autograd keeps (tests/training/test_dry_run.py).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

FLOAT32 = 4
STATE = 12  # bytes per trained parameter: its gradient and two moments, float32
UPDATE = 4  # and while AdamW changes all at once, a copy of the second moments
ALIGNMENT = 8  # numbers that a head is widened to a multiple of, for the router's two columns
VOCABULARY_COPIES = 3  # logits, their logarithms, their gradient


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Sizes of a decoder of the Llama shape and of what is beside it."""

    layers: int
    width: int
    heads: int
    key_heads: int
    head: int  # size of one
    mlp: int
    vocabulary: int
    rank: int = 0
    visual: bool = False
    textual: bool = False
    router: bool = False


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The largest pass of a step."""

    tokens: int  # padding counted
    labelled: int  # tokens that have a loss
    pictured: float = 0.0  # share of the tokens that are an image's
    seen: float = 0.0  # share from a row's first image on


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device."""

    weights: int  # float32, frozen ones too
    gradients: int
    moments: int  # of AdamW, float32
    exchange: int  # of several processes: buckets of DDP, or two unsharded layers of FSDP
    copies: int  # bfloat16 copies of the weights during a pass
    activations: int  # kept for the backward pass
    logits: int
    update: int  # while the optimiser works; activations and logits are gone then

    @property
    def peak(self) -> int:
        """At the worst moment of a step."""
        held = self.weights + self.gradients + self.moments + self.exchange
        return held + max(self.copies + self.activations + self.logits, self.update)


def estimate(
    *,
    parameters: int,
    trained: int,
    decoder: Decoder,
    of_step: Pass,
    llm_trained: bool,
    bfloat16: bool,
    checkpointing: bool,
    processes: int = 1,
    sharded: bool = False,
) -> Memory:
    """Memory of a step.

    Args:
        parameters: all, frozen ones too.
        trained: those with gradients.
        decoder: sizes.
        of_step: the largest pass of one process.
        llm_trained: whether the decoder's own weights are trained, so that inputs of its products are kept.
        bfloat16: whether products are computed in bfloat16.
        checkpointing: whether layers are recomputed in the backward pass.
        processes: how many share the work.
        sharded: whether they share weights, gradients and moments too (FSDP2).
    """
    share = processes if sharded else 1
    number = 2 if bfloat16 else FLOAT32
    layer = round(of_step.tokens * _per_token(decoder, of_step, llm_trained, number))
    stream = of_step.tokens * decoder.width * FLOAT32
    without = dataclasses.replace(decoder, mlp=0)  # its MLP: only where a reply follows
    last = round(of_step.tokens * _per_token(without, of_step, llm_trained, number))
    last += of_step.labelled * 4 * decoder.mlp * number
    activations = decoder.layers * stream + layer if checkpointing else (decoder.layers - 1) * layer + last + stream
    a_layer = FLOAT32 * parameters // decoder.layers
    copies = 0
    if bfloat16 and not sharded:  # those of frozen weights are made again where layers are recomputed
        copies = 2 * (trained + (parameters - trained) // decoder.layers if checkpointing else parameters)
    return Memory(
        weights=FLOAT32 * parameters // share,
        gradients=FLOAT32 * trained // share,
        moments=2 * FLOAT32 * trained // share,
        exchange=0 if processes == 1 else 2 * a_layer if sharded else FLOAT32 * trained,
        copies=copies,
        activations=activations,
        logits=of_step.labelled * decoder.vocabulary * FLOAT32 * VOCABULARY_COPIES,
        update=UPDATE * trained // share,
    )


def _per_token(decoder: Decoder, of: Pass, llm_trained: bool, number: int) -> float:
    """Bytes that one layer keeps of one token.

    Two norms keep their float32 input. Attention keeps query, key, value and output, the MLP its gate before and after the activation and
    the other half; products of trained weights keep their inputs, and trained norms their normalised values.
    """
    width, mlp, rank = decoder.width, decoder.mlp, decoder.rank
    heads = 2 * (decoder.heads + decoder.key_heads)  # query and output, key and value
    kept: float = 2 * width * FLOAT32 + (heads * decoder.head + 3 * mlp) * number
    if llm_trained:
        kept += 2 * width * FLOAT32 + (2 * width + mlp) * number
    # A learner keeps the stream it reads, its query, its output before and after the heads are joined, and what is between its low-rank
    # products; and of each token that it sees a key and a value.
    if decoder.visual:
        kept += of.seen * (4 * width + 2 * rank) * number + of.pictured * (2 * width + 2 * rank) * number
    if decoder.textual:
        kept += (4 * width + 2 * rank) * number + (1 - of.pictured) * (2 * width + 2 * rank) * number
    if decoder.router:  # the learners' outputs, which it weighs, and its columns beside the heads (models/wings/attention.py)
        kept += 2 * width * number + heads * (2 - (decoder.head + 2) % -ALIGNMENT) * number
    return kept
