"""The nano tokenizer: a byte-level BPE of about 2,000 tokens with chat marks, and its chat template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from iit_bench.data import facts
from iit_bench.training import described, dialogues, sources
from iit_bench.types import IMAGE_MARK

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"

# Prefix-stable: a turn is added at the end and changes nothing before it. Content is a string or a list of parts.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|' + message.role + '|>' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{{- '<image>' if part.type == 'image' else part.text -}}
{%- endfor -%}
{%- endif -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"""


def make(vocabulary: int, context: int, of: Sequence[str] = ()) -> Any:
    """Learn the BPE from the lab's own text: all facts in all wordings, described scenes, and what else is trained on.

    Args:
        vocabulary: number of tokens, bytes and chat marks included.
        context: longest input of the model it is for.
        of: names of the sources that are trained on (`sources.SOURCES`).

    Returns:
        A `PreTrainedTokenizerFast`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END, IMAGE_MARK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_text(of), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT, IMAGE_MARK],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def _text(of: Sequence[str]) -> Iterator[str]:
    for fact in facts.facts():
        yield fact.answer  # as a reply begins, without a space before it
        for wording in facts.WORDINGS[fact.relation]:
            yield wording.format(fact.subject)
    rng = dialogues.generator(0, 0)
    for _ in range(2000):
        question = described.scene(rng)
        yield question.question
        yield question.answer_text
    for name in sorted(set(of) - {"facts", "scenes"}):
        for _ in range(500):
            question = sources.picks(name)(rng, None)
            yield question.question
            yield question.answer_text
