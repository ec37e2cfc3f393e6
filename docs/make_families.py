"""Writes docs/families.md from the list that tests/models/huggingface/test_families.py runs through; a test compares the two.

python docs/make_families.py
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "data")]

from tiny_vlms import FAMILIES, REFUSED, Family  # noqa: E402 - run as a script, the folders above are not on the path

HEAD = """# Families of models that are tested

Made by `docs/make_families.py` from the tests' own list; do not edit. `hf:` loads any `AutoModelForCausalLM` and
`AutoModelForImageTextToText` of transformers. These families are tested, with the versions of `constraints.txt`, by tiny random models with
their real processors (`tests/models/huggingface/test_families.py`), each against transformers without this project:

- log-likelihoods of replies to chats with 0 to 3 images, and to histories of text and images, equal one direct pass (1e-5 per token),
  and the model's own `generate` when it is made to give the reply;
- greedy replies equal its own `generate`;
- greedy replies to several chats at once, with unequal numbers of images, equal those to each by itself
  (`tests/models/huggingface/test_chat_rows.py`);
- raw text, as lm-eval asks it, equals one direct pass;
- requests as rows of a tree give the scores of whole passes, every token once (`tests/models/huggingface/test_image_trees.py`,
  `test_tree_families.py`); in families without, a prompt goes through once and all replies continue it (`test_image_prompts.py`);
- an image goes through processor and tower once (`test_image_trees.py`). LLaVA-OneVision reads it once alone and once in company. The
  processors of PaliGemma, Llama 3.2 Vision and Phi-4-multimodal read it with every chat, their towers once (`test_tower_memory.py`);
  Phi-4's tower once with each set of images.

All that is checked again when a model is loaded, and recorded in run.json (`model.details`: `images`, `rows`).

Released checkpoints of them were not run by the tests: sizes, templates and tokenizers differ there.

| family | `model_type` | class of transformers | images | histories | rows of a tree | further packages | |
|---|---|---|---|---|---|---|---|
"""
FOOT = """
Image processors run on torchvision, which iit-bench installs. Where a processor asks for another package, the error names it.

Refused in a sentence:

"""


def page() -> str:
    """The page."""
    refused = "".join(f"- {family.title} (`{family.name}`): {family.note}.\n" for family in REFUSED)
    more = "- Encoder-decoder models (Florence 2, Pix2Struct): their replies do not continue the prompt.\n"
    more += "- An image-text checkpoint whose chat template is for text only, or that has no processor for images.\n"
    return HEAD + "".join(_row(family) for family in FAMILIES) + FOOT + refused + more


def _row(family: Family) -> str:
    cells = [family.title, f"`{family.name}`", f"`{_class_name(family)}`", _yes(family.images), _yes(family.histories), _yes(family.tree)]
    return f"| {' | '.join([*cells, ', '.join(family.needs) or '–', family.note])} |\n"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _class_name(family: Family) -> str:
    from transformers.models.auto import modeling_auto as auto

    kinds = ("IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "CAUSAL_LM")
    names = [getattr(auto, f"MODEL_FOR_{kind}_MAPPING_NAMES") for kind in kinds]
    return str(next(mapping[family.name] for mapping in names if family.name in mapping))


if __name__ == "__main__":
    (HERE / "families.md").write_text(page(), encoding="utf-8")
