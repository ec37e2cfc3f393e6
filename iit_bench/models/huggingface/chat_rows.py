"""Replies of an image-text model to several chats at once, where that is right for it: found out when the model is loaded.

Chats of a probe, with no image to several, are continued together, and the logits of their new tokens compared with plain passes over each
chat by itself. Some models pass for any chats, some only for chats that show equally many images, others for none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image as PillowImage

from iit_bench.errors import ItemError, one_line
from iit_bench.images import decode_item, encode
from iit_bench.models.huggingface.encoding import InputMaker, Inputs
from iit_bench.models.huggingface.generation import end_tokens, greedy_settings
from iit_bench.models.huggingface.image_chats import ImageChats
from iit_bench.models.huggingface.image_parts import ImagePart
from iit_bench.models.huggingface.joined_inputs import join
from iit_bench.models.huggingface.rows import FAILS, PROBE, column_border, tolerance
from iit_bench.models.raw_text import until_end
from iit_bench.models.rendering import Turn, render_prompt
from iit_bench.models.special_tokens import pad_token
from iit_bench.types import Image

# Which chats are continued together: any; those whose tensors of images have equal shapes; or none, each is by itself.
Company = Literal["any", "alike", "none"]
PROBE_TOKENS = 3  # generated in the check at load
PROBE_SIZES = ((56, 56), (80, 40), (64, 100))  # pixels of the probe's images: square, wide and tall
# Of the probe's chats, by the company that they are to have: numbers of their images, and how many letters of PROBE are their words.
PROBE_CHATS: dict[str, tuple[tuple[tuple[int, ...], int], ...]] = {
    "any": (((), 74), ((0,), 20), ((1, 2), 33)),
    "alike": (((0,), 74), ((1,), 20), ((), 33), ((), 12)),
}


@dataclass(frozen=True)
class Chat:
    """A chat as it is continued.

    Attributes:
        inputs: of the chat by itself.
        parts: images whose features the model is given in place of pixels, where it takes features.
    """

    inputs: Inputs
    parts: Sequence[ImagePart] = ()

    @property
    def length(self) -> int:
        """Tokens of the chat, image tokens included."""
        return int(self.inputs["input_ids"].shape[1])


class ChatRows:
    """Continues chats with one model.

    Attributes:
        company: which chats are continued together.
        refused: why not more: company → sentence.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        inputs: InputMaker,
        make: Callable[[str, Sequence[Image]], Chat],
        images: ImageChats | None,
        switches: Callable[[int], bool],
    ) -> None:
        self.model, self.processor, self.inputs, self.make, self.images, self.switches = model, processor, inputs, make, images, switches
        self.tokenizer = processor.tokenizer
        self.pad = pad_token(self.tokenizer, model)
        self.widest = column_border(model.config.get_text_config())
        self.row_per_chat: frozenset[str] = frozenset()
        self.company: Company = "none"
        self.refused: dict[str, str] = {}
        self._find_company()

    def details(self) -> dict[str, Any]:
        """For `ModelInfo.details`."""
        return {"generation": {"together": self.company, "refused": self.refused}}

    # ------------------------------------------------------------ what is right for this model

    @torch.inference_mode()
    def _find_company(self) -> None:
        ways: tuple[Company, ...] = ("any", "alike")
        for company in ways:
            try:
                probe = [self._probe_chat(images, letters) for images, letters in PROBE_CHATS[company]]
                chats = [self.make(text, images) for text, images in probe]
                if company == "any":
                    self.row_per_chat = self._rows_per_chat(chats[-1].inputs)
                self.company = company
                right = all(self._steps_agree([chats[i] for i in part], [probe[i] for i in part]) for part in self.parts(chats))
                why = "" if right else "logits of new tokens differ from those of plain passes"
            except (*FAILS, ItemError) as error:
                why = f"the check at load fails: {one_line(error)}"
            if not why:
                return
            self.refused[company] = why
        self.company = "none"

    def _probe_chat(self, images: Sequence[int], letters: int) -> tuple[str, list[Image]]:
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": PROBE[:letters]}]
        turn: Turn = {"role": "user", "content": content}
        return render_prompt(self.processor, [turn]), [_picture(image) for image in images]

    def _rows_per_chat(self, inputs: Inputs) -> frozenset[str]:
        """Tensors of images of a chat with several images that have one row all the same."""
        layout = self.inputs.layout(inputs)
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor) and name not in layout}
        return frozenset(name for name, value in tensors.items() if value.shape[0] == 1)

    def _steps_agree(self, chats: Sequence[Chat], probe: Sequence[tuple[str, list[Image]]]) -> bool:
        """Whether new tokens have the logits of plain passes over the processor's own inputs."""
        how = greedy_settings(self.model) | {"return_dict_in_generate": True, "output_logits": True}
        output = self._generate(chats, PROBE_TOKENS, **how)
        ends = end_tokens(self.model, self.tokenizer)
        for index, (text, images) in enumerate(probe):
            new = output.sequences[index, -len(output.logits) :].tolist()
            count = next((i + 1 for i, token in enumerate(new) if token in ends), len(new))
            whole = self.inputs.append(self.inputs.make(text, list(map(decode_item, images))), new[: count - 1])
            plain = self.model(**whole, use_cache=False).logits[0, -count:].float().log_softmax(-1)
            steps = torch.stack([step[index] for step in output.logits[:count]]).float().log_softmax(-1)
            token = torch.tensor(new[:count], device=plain.device)[:, None]
            if not bool(((plain.gather(1, token) - steps.gather(1, token)).abs() <= tolerance(self.model.dtype)).all()):
                return False
        return True

    # ------------------------------------------------------------ generating

    def parts(self, chats: Sequence[Chat], max_new_tokens: int = 0) -> list[list[int]]:
        """Indices of the chats that are continued together, each chat once, in the order of the first of each part."""
        parts: dict[Any, list[int]] = {}
        for index, chat in enumerate(chats):
            alone = not self.pads(chat.length + max_new_tokens)
            parts.setdefault(index if alone else self._kind(chat), []).append(index)
        return list(parts.values())

    def pads(self, length: int) -> bool:
        """Whether chats that have up to so many tokens with their replies may be padded to one length."""
        return self.company != "none" and not self.switches(length) and (self.widest is None or length <= self.widest)

    def _kind(self, chat: Chat) -> Any:
        if self.company == "any":
            return "any"
        layout = self.inputs.layout(chat.inputs)
        return tuple((name, tuple(value.shape)) for name, value in sorted(chat.inputs.items()) if name not in layout)

    def continued(self, chats: Sequence[Chat], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """New tokens after chats of one part, up to the end of the turn, which is left out.

        Greedily unless `settings` (of transformers' `generate`), or penalties of the checkpoint's generation config, say otherwise.
        """
        width = max(chat.length for chat in chats)
        switches = self.switches(width + max_new_tokens)
        output = self._generate(chats, max_new_tokens, **(settings | ({"use_cache": False} if switches else {})))
        ends = end_tokens(self.model, self.tokenizer)
        return [until_end(row, ends) for row in output[:, width:].tolist()]

    def _generate(self, chats: Sequence[Chat], max_new_tokens: int, **settings: Any) -> Any:
        inputs = [chat.inputs for chat in chats]
        joined = join(inputs, list(map(self.inputs.layout, inputs)), pad=self.pad, row_per_chat=self.row_per_chat)
        if self.images:
            joined |= self.images.encoded([part for chat in chats for part in chat.parts])
        ending = {"eos_token_id": end_tokens(self.model, self.tokenizer) or None, "pad_token_id": self.pad}
        how = {"do_sample": False, "num_beams": 1} | ending | settings
        return self.model.generate(**joined, max_new_tokens=max_new_tokens, **how)


def _picture(number: int) -> Image:
    """An image of the probe: no two parts of it are equal."""
    width, height = PROBE_SIZES[number]
    places = [(x, y) for y in range(height) for x in range(width)]
    picture = PillowImage.new("RGB", (width, height))
    picture.putdata([((x * 7 + number * 90) % 256, (y * 5) % 256, (x * y + 40 * number) % 256) for x, y in places])
    return Image(encode(picture))
