"""Where a reply begins, against the tokens of whole chats as transformers itself renders and tokenises them."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from iit_bench.errors import ItemError
from iit_bench.models.rendering import PLAIN_TEMPLATE, render_prompt, text_turns
from iit_bench.models.replies import Delimiter, cut_replies, encode_replies, learn_delimiter
from iit_bench.types import Message

pytestmark = pytest.mark.oracle

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "colon": "{% for m in messages %}{{ m.role | upper }}: {{ m.content }} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "turns": "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    "inst": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}",
    "llama3": "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "lab": "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "thinks": CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"),
    "thinks not": CHATML.replace(
        "{{ m.content }}", "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
    ),
    "channels": "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
    "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    "full width": "{% for m in messages %}{{ m.role | upper }}：{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT：{% endif %}",
    "plain": PLAIN_TEMPLATE,
}
DELIMITERS = {
    "colon": Delimiter(added=" "),
    "inst": Delimiter(added=" "),
    "plain": Delimiter(added=" "),
    "thinks": Delimiter(dropped="<think>\n"),
    "thinks not": Delimiter(added="<think>\n\n</think>\n\n"),
    "channels": Delimiter(added="<|channel|>final<|message|>"),
}
MARKS = ["<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
MARKS += ["<think>", "</think>", "<|user|>", "<|assistant|>", "<|end|>", "<|start|>", "<|channel|>", "<|message|>"]
REPLIES = ("Paris", "red", "the red circle", "12", "巴黎", "-5", "(B)", "Élan vital")
CHATS = [
    ("What is the capital of France?",),
    ("Which number is it: 11 or 12?", "12", "And which colour?"),
]
CORPUS = [
    "USER: What is the capital of France? ASSISTANT: Paris",
    "Question: the red circle?\nAnswer: red circle 12",
    "ASSISTANT：巴黎",
] * 3
# Split of Qwen's and Llama 3's tokenizers: a sign and the letters after it are one piece.
SIGN_AND_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(backend: Tokenizer) -> None:
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()


def signs_and_letters(backend: Tokenizer) -> None:
    split = pre_tokenizers.Split(Regex(SIGN_AND_LETTERS), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()


def sentencepiece(backend: Tokenizer) -> None:
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")


@pytest.fixture(scope="module", params=[byte_level, signs_and_letters, sentencepiece], ids=lambda kind: kind.__name__)
def tokenizer(request) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    request.param(backend)
    texts = [*CORPUS, *REPLIES, *(text for chat in CHATS for text in chat), "\n[]/"]
    characters = sorted({*"".join(texts), *pre_tokenizers.ByteLevel.alphabet()})
    special = ["<unk>", "<s>", "</s>", *MARKS]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, initial_alphabet=characters, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def messages(turns: tuple[str, ...]) -> list[Message]:
    return [Message(("user", "assistant")[i % 2], (text,)) for i, text in enumerate(turns)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_delimiter_is_what_the_template_writes_between_prompt_and_reply(tokenizer, name):
    tokenizer.chat_template = TEMPLATES[name]
    assert learn_delimiter(tokenizer, text_turns) == DELIMITERS.get(name, Delimiter())


@pytest.mark.parametrize("turns", CHATS, ids=len)
@pytest.mark.parametrize("name", TEMPLATES)
def test_prompt_and_reply_are_the_tokens_of_the_whole_chat(tokenizer, name, turns):
    """The tokens of the chat with the reply in it, cut before the first one that holds a letter of the reply."""
    check_tokens(tokenizer, name, turns)


@pytest.mark.parametrize("name", ["own", "chatml", "colon", "inst", "full width", "plain"])
def test_so_are_those_of_a_real_tokenizer(smollm2, name):
    """SmolLM2's tokenizer, with its own template and with those whose marks it knows or that have none."""
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    for turns in CHATS:
        check_tokens(tokenizer, name, turns)


def check_tokens(tokenizer, name: str, turns: tuple[str, ...]) -> None:
    """Compare each reply's tokens with those of the whole chat that transformers renders and tokenises."""
    if name in TEMPLATES:
        tokenizer.chat_template = TEMPLATES[name]
    chat = messages(turns)
    context = learn_delimiter(tokenizer, text_turns).context(render_prompt(tokenizer, text_turns(chat)))
    for reply in REPLIES:
        whole = tokenizer.apply_chat_template(text_turns([*chat, Message("assistant", (reply,))]), tokenize=False)
        encoding = tokenizer(whole, return_offsets_mapping=True, add_special_tokens=False)
        start = whole.rindex(reply)
        assert whole[:start] == context, reply
        ids, spans = encoding["input_ids"], encoding["offset_mapping"]
        cut = next(i for i, (_, end) in enumerate(spans) if end > start)
        end = next(i for i, (_, end) in enumerate(spans) if end >= start + len(reply)) + 1
        while end < len(spans) and spans[end][1] <= start + len(reply):  # bytes of one character
            end += 1
        ours = encode_replies(tokenizer, context, [reply])
        if whole[spans[cut][0] : start].strip():  # the reply's first letters are one token with the prompt's last
            assert ours.merged == 1 and ours.prompt == tokenizer.encode(context, add_special_tokens=False), reply
            assert tokenizer.decode(ours.replies[0]).strip() == reply
        else:
            assert (ours.prompt, ours.replies, ours.merged) == (ids[:cut], [ids[cut:end]], 0), reply


def test_replies_are_compared_after_the_same_prompt():
    """Where the delimiter is one token with some replies and a token of its own before others, it is scored for all."""
    vocabulary = {":": 1, " ": 2, " Paris": 3, "1": 4, "x": 5}

    def encode(text: str) -> list[int]:
        ids = []
        while text:
            piece = next(name for name in sorted(vocabulary, key=len, reverse=True) if text.startswith(name))
            ids, text = [*ids, vocabulary[piece]], text[len(piece) :]
        return ids

    assert cut_replies(encode, "x: ", ["1", "11"]).replies == [[4], [4, 4]]
    both = cut_replies(encode, "x: ", ["1", "Paris"])
    assert (both.text, both.prompt, both.replies) == ("x:", [5, 1], [[2, 4], [3]])


def test_template_that_loses_a_system_turn_before_a_reply_keeps_it_here(tokenizer):
    """Mistral's template writes the system prompt only where the last turn is the user's: the delimiter is learned apart from the chat."""
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] "
        "{{ messages[0].content ~ '\n\n' if loop.last and messages[0].role == 'system' }}{{ m.content }}[/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
    )
    prompt = render_prompt(tokenizer, text_turns([Message("system", ("Be brief.",)), Message("user", ("Hm?",))]))
    assert learn_delimiter(tokenizer, text_turns).context(prompt) == "[INST] Be brief.\n\nHm?[/INST] "


def test_reply_without_text_is_an_error_of_the_item(tokenizer):
    with pytest.raises(ItemError, match="reply without tokens"):
        encode_replies(tokenizer, "ASSISTANT: ", ["Paris", ""])
