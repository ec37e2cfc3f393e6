"""What the recipes share: sizes, chat templates in the families' forms, and how a model is saved with its processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
TEXT = {**SHAPE, "initializer_range": 0.2, "max_position_embeddings": 8192}  # wide weights: scores differ between choices and images
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SIGLIP = {"model_type": "siglip_vision_model", **VISION, "image_size": 56, "patch_size": 14, "vision_use_head": False}

# The templates are ours, in each family's form: what matters is where the image mark is, and what ends the prompt.
PARTS = (
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{% if p.type == 'image' %}IMAGE{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n" + PARTS + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COLON = (  # ends without white space
    "{% for m in messages %}{{ m.role | upper }}: " + PARTS + "END{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n" + PARTS + "<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|header_start|>{{ m.role }}<|header_end|>\n\n" + PARTS + "<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)
BARS = (
    "{% for m in messages %}<|{{ m.role }}|>" + PARTS + "<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}"
)
OPENING = "<|im_start|>assistant\n{% endif %}"
THINKING = CHATML.replace(
    OPENING, OPENING.removesuffix("{% endif %}") + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of checkpoints that tests and the documentation's table share.

    Attributes:
        name: of the recipe and of the folder that it writes: the model_type of transformers.
        title: as people call it.
        make: the recipe: writes a folder with a tiny random model and its processor or tokenizer.
        images: whether it takes images.
        histories: whether it takes chats of several turns.
        tree: whether requests go through it as rows of a tree; else each prompt by itself.
        needs: packages beside torchvision that its processor asks for.
        note: what differs from other families, for the table.
    """

    name: str
    title: str
    make: Callable[[Maker], None]
    images: bool = True
    histories: bool = True
    tree: bool = True
    needs: tuple[str, ...] = ()
    note: str = ""


class Maker:
    """Writes models below `out`, with the tokenizer of `folder`: any byte-level BPE with bos, eos and pad tokens."""

    def __init__(self, out: Path, folder: Path) -> None:
        self.out, self.folder = out, folder

    def tokenizer(self, *marks: str, bos: bool = False, **named: str) -> Any:
        """The tokenizer with further special tokens; `named` ones become its attributes, as `image_token`. `bos`: it gets a first token."""
        from transformers import AutoTokenizer

        more = {"extra_special_tokens": named} if named else {}
        tokenizer = AutoTokenizer.from_pretrained(self.folder, **more)
        tokenizer.chat_template = None
        tokenizer.add_special_tokens({"additional_special_tokens": list(marks)} | ({"bos_token": "<s>"} if bos else {}))
        return tokenizer

    def text(self, tokenizer: Any, **more: Any) -> dict[str, Any]:
        """Entries of a text config."""
        ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        return {**TEXT, "vocab_size": len(tokenizer), **ids, **more}

    def save(self, name: str, model_class: Any, config: Any, processor: Any) -> None:
        """A random model, always the same one, and its processor."""
        import torch

        torch.manual_seed(1)
        model = model_class(config)
        for parameter in model.parameters():  # gates and projections that start at zero would shut images out
            if parameter.dim() and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(self.out / name)
        processor.save_pretrained(self.out / name)
