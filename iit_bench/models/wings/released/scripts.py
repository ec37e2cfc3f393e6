"""Prompts and labels as the released code writes them, quirks included (docs/spec/wings.md#a10-training)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from iit_bench.models.wings.state import IGNORED

IMAGE_MARK = "<image>"
IMAGE_SLOT = -200  # the token id that stands for an image
SYSTEM_PROMPT = "You are a helpful assistant."
_NUMBERED_MARKS = ("<image 1>", "<image 2>", "<image 3>", "<image 4>")


# The hash of a Script's repr is its model's chat_template_sha256 and enters every response's key: keep names, order and values.
@dataclass(frozen=True, kw_only=True)
class Script:
    """The texts of a conversation around those of its turns.

    Attributes:
        system: before a system turn's text.
        user: before a user turn's text.
        assistant: before an assistant turn's text.
        end: after every turn.
        system_prompt_length: tokens of the default system turn.
    """

    system: str
    user: str
    assistant: str
    end: str
    system_prompt_length: int

    def before(self, role: str) -> str:
        """The header of a role's turns."""
        return {"system": self.system, "user": self.user, "assistant": self.assistant}[role]


SCRIPTS = {
    "qwen": Script(
        system="<|im_start|>system\n",
        user="<|im_start|>user\n",
        assistant="<|im_start|>assistant\n",
        end="<|im_end|>",
        system_prompt_length=14,
    ),
    # The authors' Llama scripts swap the system's and the user's header, and their "\n" is a backslash and an n, not a line break.
    "llama": Script(
        system=r"<|start_header_id|>user<|end_header_id|>\n\n",
        user=r"<|start_header_id|>system<|end_header_id|>\n\n",
        assistant=r"<|start_header_id|>assistant<|end_header_id|>\n\n",
        end="<|eot_id|>",
        system_prompt_length=17,
    ),
}

Encode = Callable[[str], list[int]]  # text without image marks -> token ids, nothing added
Turn = tuple[str, str]  # role ("system", "user", "assistant") and text


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A conversation as the released code writes it.

    Attributes:
        text: the whole conversation.
        input_ids: its tokens, images as `IMAGE_SLOT`.
        labels: the same, IGNORED where not scored.
    """

    text: str
    input_ids: list[int]
    labels: list[int]


def format_conversation(turns: Sequence[Turn], script: Script, encode: Encode, preface: str | None = None) -> Prompt:
    """Write a conversation for training, or with `preface` a prompt that ends in an assistant's turn beginning with it.

    Without a system turn the default one is put first. Labels are an assistant's text, its end mark and the line break between turns.

    Args:
        turns: role and text of each.
        script: the texts around them.
        encode: token ids of a text without image marks.
        preface: beginning of the reply, "" for none; None = the conversation is complete.
    """
    role_length = len(encode(script.assistant))
    text = ""
    input_ids: list[int] = []
    labels: list[int] = []
    for role, piece in write_turns(turns, script, preface):
        ids = encode_with_slots(piece, encode)
        hidden = role_length if role == "assistant" else len(ids)
        text += piece
        input_ids += ids
        labels += [IGNORED] * hidden + ids[hidden:]
    return Prompt(text=text, input_ids=input_ids, labels=labels)


def write_turns(turns: Sequence[Turn], script: Script, preface: str | None = None) -> list[Turn]:
    """Every turn's role and its text in the prompt, header and end mark included; see `format_conversation`."""
    turns = [*turns] if turns and turns[0][0] == "system" else [("system", SYSTEM_PROMPT), *turns]
    if preface is not None:
        turns.append(("assistant", preface))
    written = [(role, script.before(role) + text + script.end + "\n") for role, text in turns]
    role, last = written[-1]
    written[-1] = (role, last.removesuffix("\n") if preface is None else last.removesuffix(script.end + "\n"))
    return written


def encode_with_slots(text: str, encode: Encode) -> list[int]:
    """Token ids of a text, each image mark as one `IMAGE_SLOT`."""
    ids: list[int] = []
    for index, piece in enumerate(text.split(IMAGE_MARK)):
        ids += ([IMAGE_SLOT] if index else []) + encode(piece)
    return ids


def place_image(turns: Sequence[Turn], has_image: bool) -> list[Turn]:
    """Give a training sample's turns one image mark, or none without an image.

    The first mark of the first user turn that has one stays; if none has, the last user turn gets one. All others are removed.
    """
    users = [index for index, (role, _) in enumerate(turns) if role == "user"]
    marked = [index for index in users if IMAGE_MARK in turns[index][1]]
    if has_image and not users:
        return list(turns)
    chosen = (marked or users[-1:])[0] if has_image else None
    placed = []
    for index, (role, text) in enumerate(turns):
        if index != chosen:
            text = text.replace(IMAGE_MARK, "").strip()
        elif IMAGE_MARK in text:
            text = _keep_first(text).strip()
        else:
            text = f"{IMAGE_MARK}\n{text}"
        placed.append((role, text))
    return placed


def mark_image(instruction: str) -> str:
    """Give a benchmark question exactly one image mark: in place of the first numbered mark, else on a line of its own before the text."""
    numbered = next((mark for mark in _NUMBERED_MARKS if mark in instruction), None)
    if numbered is None:
        return f"{IMAGE_MARK}\n{instruction}"
    marked = _keep_first(instruction.replace(numbered, IMAGE_MARK))
    for mark in _NUMBERED_MARKS:
        marked = marked.replace(mark, "")
    return marked


def _keep_first(text: str) -> str:
    before, mark, after = text.partition(IMAGE_MARK)
    return before + mark + after.replace(IMAGE_MARK, "")


def collate(prompts: Sequence[Prompt], pad_token_id: int, max_length: int) -> dict[str, torch.Tensor]:
    """A training batch: input_ids [B, tokens] int64, labels [B, tokens] int64, attention_mask [B, tokens] bool.

    Rows are cut to `max_length` tokens before images are put in place. The mask is `id != pad_token_id`; so if the pad token is the end
    mark, as in the Llama scripts, every end mark is deleted, also from the labels.
    """

    def pad(rows: list[list[int]], value: int) -> torch.Tensor:
        tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)[:, :max_length]

    input_ids = pad([prompt.input_ids for prompt in prompts], pad_token_id)
    labels = pad([prompt.labels for prompt in prompts], IGNORED)
    return {"input_ids": input_ids, "labels": labels, "attention_mask": input_ids != pad_token_id}
