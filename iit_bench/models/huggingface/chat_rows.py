"""Replies of an image-text model to several chats at once, where that is right for it: found out when the model is loaded.

Chats of a probe, with no image to several, are continued together, and the logits of their new tokens compared with plain passes over each
chat by itself. Some models pass for any chats, some only for chats that show equally many images, others for none.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from PIL import Image as PillowImage

from iit_bench.errors import ItemError, one_line
from iit_bench.images import decode_item, encode
from iit_bench.models.huggingface.begun_rows import decodes_plainly, read_beginnings, widest_row
from iit_bench.models.huggingface.encoding import InputMaker, Inputs, PerToken
from iit_bench.models.huggingface.generation import end_tokens, greedy_settings
from iit_bench.models.huggingface.image_chats import ImageChats
from iit_bench.models.huggingface.image_parts import ImagePart
from iit_bench.models.huggingface.joined_inputs import join
from iit_bench.models.huggingface.rows import FAILS, PROBE, column_border, tolerance
from iit_bench.models.raw_text import until_end
from iit_bench.models.rendering import Turn, render_prompt
from iit_bench.models.special_tokens import pad_token
from iit_bench.shared_beginnings import Cuts, cut_beginnings, worth_cutting
from iit_bench.token_trees import ImageSymbols, symbols
from iit_bench.types import Image

# Which chats are continued together: any; those whose tensors of images have equal shapes; or none, each is by itself.
Company = Literal["any", "alike", "none"]
SHARING = "shares_beginnings"
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
        way: Literal["auto", "plain"] = "auto",
    ) -> None:
        self.model, self.processor, self.inputs, self.make, self.images, self.switches = model, processor, inputs, make, images, switches
        self.tokenizer = processor.tokenizer
        self.pad = pad_token(self.tokenizer, model)
        self.widest = column_border(model.config.get_text_config())
        self.row_per_chat: frozenset[str] = frozenset()
        self._symbols = ImageSymbols()
        self._widest_begun = min(filter(None, (self.widest, widest_row(model.config.get_text_config()))), default=None)
        self.company: Company = "none"
        self.refused: dict[str, str] = dict.fromkeys(("any", "alike", SHARING), "--engine plain") if way == "plain" else {}
        if way == "auto":
            self._find_company()
            self._find_sharing()

    def details(self) -> dict[str, Any]:
        """For `ModelInfo.details`."""
        return {"generation": {"together": self.company, SHARING: SHARING not in self.refused, "refused": self.refused}}

    def ways(self) -> dict[str, str]:
        """For `Model.ways`."""
        return {"together": self.company, "beginnings": "with each prompt" if SHARING in self.refused else "once"}

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

    @torch.inference_mode()
    def _find_sharing(self) -> None:
        """Whether what chats begin with may be read once: two with one image and one without, or texts if the model takes no features."""
        if self.company == "none":
            self.refused[SHARING] = "chats are continued one at a time"
            return
        image = (0,) if self.images else ()
        try:
            probe = [self._probe_chat(image, 40), self._probe_chat(image, 58), self._probe_chat((), 20)]
            chats = [self.make(text, images) for text, images in probe]
            cuts = self.cuts(chats)
            if cuts is None:
                why = "the chats of the check at load share no beginning"
            else:
                right = self._steps_agree(chats, probe, cuts)
                why = "" if right else "logits of new tokens differ from those of plain passes"
        except (*FAILS, ItemError) as error:
            why = f"the check at load fails: {one_line(error)}"
        if why:
            self.refused[SHARING] = why

    def _probe_chat(self, images: Sequence[int], letters: int) -> tuple[str, list[Image]]:
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": PROBE[:letters]}]
        turn: Turn = {"role": "user", "content": content}
        return render_prompt(self.processor, [turn]), [_picture(image) for image in images]

    def _rows_per_chat(self, inputs: Inputs) -> frozenset[str]:
        """Tensors of images of a chat with several images that have one row all the same."""
        layout = self.inputs.layout(inputs)
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor) and name not in layout}
        return frozenset(name for name, value in tensors.items() if value.shape[0] == 1)

    def _steps_agree(self, chats: Sequence[Chat], probe: Sequence[tuple[str, list[Image]]], cuts: Cuts | None = None) -> bool:
        """Whether new tokens have the logits of plain passes over the processor's own inputs."""
        how = greedy_settings(self.model) | {"return_dict_in_generate": True, "output_logits": True}
        output = self._generate(chats, PROBE_TOKENS, cuts, **how)
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
        lengths = [chat.length for chat in chats]
        switches = self.switches(max(lengths) + max_new_tokens)
        cuts = self._worthy_cuts(chats, max_new_tokens, settings)
        output = self._generate(chats, max_new_tokens, cuts, **(settings | ({"use_cache": False} if switches else {})))
        ends = end_tokens(self.model, self.tokenizer)
        width = cuts.whole(lengths) if cuts else max(lengths)
        return [until_end(row, ends) for row in output[:, width:].tolist()]

    def _generate(self, chats: Sequence[Chat], max_new_tokens: int, cuts: Cuts | None, **settings: Any) -> Any:
        ending = {"eos_token_id": end_tokens(self.model, self.tokenizer) or None, "pad_token_id": self.pad}
        inputs = self._begun(chats, cuts, ending) if cuts else self._joined(chats)
        how = {"do_sample": False, "num_beams": 1} | ending | settings
        return self.model.generate(**inputs, max_new_tokens=max_new_tokens, **how)

    def _joined(self, chats: Sequence[Chat]) -> Inputs:
        inputs = [chat.inputs for chat in chats]
        joined = join(inputs, list(map(self.inputs.layout, inputs)), pad=self.pad, row_per_chat=self.row_per_chat)
        return joined | (self.images.encoded([part for chat in chats for part in chat.parts]) if self.images else {})

    # ------------------------------------------------------------ beginnings that chats share

    def symbols(self, chat: Chat) -> array[int]:
        """The chat in symbols: one for its images, and its tokens. Empty if images are in its inputs as pixels, which are not compared."""
        if not chat.parts and set(chat.inputs) - set(self.inputs.layout(chat.inputs)):
            return symbols(())
        images = self._symbols.of(" ".join(part.key for part in chat.parts), 1)
        return symbols(images + chat.inputs["input_ids"][0].tolist())

    def cuts(self, chats: Sequence[Chat]) -> Cuts | None:
        """Where the chats are cut so that the fewest positions are read; behind the images of each, so that a rest is text."""
        prompts = list(map(self.symbols, chats))
        if not all(prompts):
            return None
        column = self.images.parts.column if self.images else None
        text = [next((place for place, token in enumerate(reversed(prompt)) if token == column), len(prompt) - 1) for prompt in prompts]
        cuts = cut_beginnings(prompts, [max(2, len(prompt) - after) for prompt, after in zip(prompts, text, strict=True)])
        return cuts and replace(cuts, beginnings=tuple((chat, length - 1) for chat, length in cuts.beginnings))

    def _worthy_cuts(self, chats: Sequence[Chat], max_new_tokens: int, settings: Mapping[str, Any]) -> Cuts | None:
        if SHARING in self.refused or len(chats) == 1 or not decodes_plainly(self.model, settings):
            return None
        cuts, lengths = self.cuts(chats), [chat.length for chat in chats]
        if cuts is None or not worth_cutting(cuts, lengths):
            return None
        return cuts if self._widest_begun is None or cuts.whole(lengths) + max_new_tokens <= self._widest_begun else None

    def _begun(self, chats: Sequence[Chat], cuts: Cuts, ending: Mapping[str, Any]) -> Inputs:
        """Inputs that continue a cache of the chats' beginnings."""
        begun = self._joined([Chat(self.inputs.cut(chats[i].inputs, length), chats[i].parts) for i, length in cuts.beginnings])
        layouts = [self.inputs.layout(chat.inputs) for chat in chats]
        rests = [self._rest(chat.inputs, layout, cuts.length(i)) for i, (chat, layout) in enumerate(zip(chats, layouts, strict=True))]
        rest = join(rests, layouts, pad=self.pad, row_per_chat=frozenset())
        how = {name: one for layout in layouts for name, one in layout.items()}
        rows = torch.tensor(cuts.rows, device=self.model.device)
        whole = {name: torch.cat((begun[name][rows], rest[name]), dim=how[name].axis) for name in rest}
        return whole | {"past_key_values": read_beginnings(self.model, begun, cuts.rows, **ending)}

    def _rest(self, inputs: Inputs, layout: Mapping[str, PerToken], length: int) -> Inputs:
        return {name: inputs[name].narrow(how.axis, length, inputs[name].shape[how.axis] - length) for name, how in layout.items()}


def _picture(number: int) -> Image:
    """An image of the probe: no two parts of it are equal."""
    width, height = PROBE_SIZES[number]
    places = [(x, y) for y in range(height) for x in range(width)]
    picture = PillowImage.new("RGB", (width, height))
    picture.putdata([((x * 7 + number * 90) % 256, (y * 5) % 256, (x * y + 40 * number) % 256) for x, y in places])
    return Image(encode(picture))
