from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from builders.matching import Encoder, TfIdf, integer_idf, make_matcher
from builders.words import words
from iit_bench.errors import UserError

pytestmark = pytest.mark.oracle

TEXTS = [
    "What is the capital of France?",
    "what is the CAPITAL of france",
    "Which city is the capital of Spain?",
    "Is there a red circle in the image?",
    "red red red circle",
    "法国的首都是哪里？",
    "法国的国旗",
    "!!!",
]


def test_idf_is_the_floor_of_the_logarithm() -> None:
    for texts, containing in [(10, 1), (1000, 3), (50_000, 49_999), (7, 7), (12_345, 678)]:
        exact = 64 * math.log2((texts + 1) / (containing + 1))
        assert integer_idf(texts, containing) == 1 + math.floor(exact + 1e-9)


def test_similarity_is_the_cosine_of_counts_times_idf() -> None:
    counts = CountVectorizer(tokenizer=words, token_pattern=None, lowercase=False).fit_transform(TEXTS).toarray()
    idf = np.array([integer_idf(len(TEXTS), int(df)) for df in (counts > 0).sum(axis=0)])
    expected = cosine_similarity(counts * idf)
    matcher = TfIdf(TEXTS)
    similarities = np.stack([matcher.similarities(i) for i in range(len(TEXTS))])
    np.testing.assert_allclose(similarities, expected, rtol=0, atol=1e-12)


def test_spelling_apart_from_words_does_not_count() -> None:
    assert TfIdf(TEXTS).similarities(0)[1] == pytest.approx(1, abs=1e-12)
    assert TfIdf(TEXTS).similarities(7).max() == 0  # nothing is similar to a text without words


def test_matcher_none_does_not_rank_but_knows_duplicates() -> None:
    matcher = make_matcher("none", TEXTS)
    assert not matcher.ranks
    assert matcher.similarities(0)[1] > 0.95 > matcher.similarities(0)[2]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT with a word tokenizer, saved as any encoder is."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *sorted({w for text in TEXTS for w in text.split()})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(folder)
    return folder


def test_an_encoder_gives_the_cosine_of_mean_pooled_states_whatever_the_batch(encoder_folder: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(encoder_folder), AutoModel.from_pretrained(encoder_folder).eval()
    pooled = []
    for text in TEXTS:  # one at a time: no padding to go wrong
        with torch.inference_mode():
            pooled.append(model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy())
    expected = cosine_similarity(np.stack(pooled))
    matcher = Encoder(TEXTS, str(encoder_folder), batch_size=3)
    similarities = np.stack([matcher.similarities(i) for i in range(len(TEXTS))])
    np.testing.assert_allclose(similarities, expected, atol=1e-5)


def test_what_is_no_encoder_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="--match 'tf-idf' is neither tfidf, none nor a text encoder"):
        make_matcher("tf-idf", TEXTS)
