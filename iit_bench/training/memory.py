"""Memory of one training step on one device, before anything is trained (docs/how-to/train.md#memory).

Weights, gradients and moments are counted exactly. Activations follow from what the layers keep for the backward pass, so they depend on
torch and transformers, or on `models/wings/fused_layer.py` where that computes them: the formulas of `_of_keys` and `_of_queries` were
compared with what autograd keeps (tests/training/test_dry_run.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from iit_bench.models.wings.attention import extra_width

FLOAT32 = 4
STATE = 12  # bytes per trained parameter: its gradient and two moments, float32
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
    fused: bool = False  # whether layers are computed as few nodes, which keep the same whether the LLM is trained or not


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

    @property
    def peak(self) -> int:
        """At the worst moment of a step."""
        held = self.weights + self.gradients + self.moments + self.exchange
        return held + self.copies + self.activations + self.logits


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
    decoder = replace(decoder, fused=decoder.fused and not checkpointing)
    keys, queries = (kept(decoder, of_step, llm_trained, number) for kept in (_of_keys, _of_queries))
    layer = round(of_step.tokens * (keys + queries))
    stream = of_step.tokens * decoder.width * FLOAT32
    last = round(of_step.tokens * keys + of_step.labelled * queries)  # only what a loss reads
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
    )


def _of_keys(decoder: Decoder, of: Pass, llm_trained: bool, number: int) -> float:
    """Bytes that one layer keeps of one token so that others can attend to it.

    The first norm keeps its float32 input (and, as one node with the projections, its output), attention keeps key and value, products of
    trained weights their inputs, and a trained norm its normalised values. A learner keeps a key and a value of each token that it sees,
    and what is between its low-rank products.
    """
    width, rank = decoder.width, decoder.rank
    kept: float = width * FLOAT32 + 2 * decoder.key_heads * (decoder.head + _extra(decoder)) * number
    if decoder.fused:
        kept += width * FLOAT32
    elif llm_trained:
        kept += width * (FLOAT32 + number)
    if decoder.visual:
        kept += of.pictured * (2 * width + 2 * rank) * number
    if decoder.textual:
        kept += (1 - of.pictured) * (2 * width + 2 * rank) * number
    return kept


def _of_queries(decoder: Decoder, of: Pass, llm_trained: bool, number: int) -> float:
    """Bytes that one layer keeps beside those of `_of_keys` of one token whose next state is computed.

    Attention keeps query and output, the MLP its gate before and after the activation and the other half. A learner keeps the stream that
    it reads, its query, its output, and what is between its low-rank products.
    """
    width, mlp, rank = decoder.width, decoder.mlp, decoder.rank
    kept: float = width * FLOAT32 + (2 * decoder.heads * (decoder.head + _extra(decoder)) + 3 * mlp) * number
    if decoder.fused:
        kept += width * FLOAT32
    elif llm_trained:
        kept += width * FLOAT32 + (width + mlp) * number
    if llm_trained and decoder.router:  # what is projected is a copy, without the router's columns
        kept += decoder.heads * decoder.head * number
    if decoder.visual:
        kept += of.seen * (3 * width + 2 * rank) * number
    if decoder.textual:
        kept += (3 * width + 2 * rank) * number
    if decoder.router:  # of both learners what is weighed
        kept += 2 * rank * number
    return kept


def _extra(decoder: Decoder) -> int:
    """The router's columns beside a head."""
    return extra_width(decoder.head) if decoder.router else 0
