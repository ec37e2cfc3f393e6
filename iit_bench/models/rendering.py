"""Chats as a model's own template writes them: the template, what it refuses, its hash, and the special tokens around a prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from iit_bench.errors import ItemError, UserError, described, one_line
from iit_bench.models.contract import RenderedPrompt
from iit_bench.models.template_meter import enter, leave
from iit_bench.types import Image, Message

KEPT_CHARACTERS = 32 * 2**20  # of rendered chats
TEMPLATE_REFUSED = "chat template refused"  # the reason in errors.jsonl
# For a tokenizer without a chat template: the plain form base LLMs are asked in.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}Question: {{ m.content }}\nAnswer:{% elif m.role == 'assistant' %} {{ m.content }}\n\n"
    "{% else %}{{ m.content }}\n\n{% endif %}{% endfor %}"
)
Turn = dict[str, Any]  # {"role", "content"}, as templates take it


def ensure_template(tokenizer: Any) -> bool:
    """Give a tokenizer without a chat template the plain one. Returns whether it had one of its own."""
    choose_template(tokenizer)
    if tokenizer.chat_template is not None:
        return True
    tokenizer.chat_template = PLAIN_TEMPLATE
    return False


def choose_template(holder: Any) -> None:
    """Leave a tokenizer or processor whose chat templates have names and none of which is "default" with the only one.

    Raises:
        UserError: there are several.
    """
    named = holder.chat_template
    if not isinstance(named, Mapping) or "default" in named:
        return
    if len(named) > 1:
        names = ", ".join(sorted(named))
        raise UserError(f"the checkpoint has several chat templates ({names}) and none is named default; save the one to use as default")
    holder.chat_template = next(iter(named.values()), None)


def template_sha256(template: Any) -> str:
    """Hash of a template's text, for `ModelInfo.chat_template_sha256`."""
    return hashlib.sha256(str(template).encode()).hexdigest()


def text_turns(messages: Sequence[Message]) -> list[Turn]:
    """A chat for templates of text-only models: a content is a string."""
    return [{"role": message.role, "content": message.text} for message in messages]


def turns_of_parts(messages: Sequence[Message]) -> list[Turn]:
    """A chat for templates of image-text models: a content is a list of texts and places of images, in reading order."""
    return [{"role": message.role, "content": [_part(part) for part in message.parts]} for message in messages]


def _part(part: str | Image) -> dict[str, str]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def apply_template(renderer: Any, turns: Sequence[Any], **settings: Any) -> str:
    """A chat as the template of a tokenizer or processor of transformers writes it.

    Args:
        renderer: of transformers; `check_template` has tried its template.
        turns: as the template takes them.
        settings: further arguments of `apply_chat_template`.

    Raises:
        jinja2.TemplateError: the template refuses the chat, fails, writes nothing, or does or writes far more than the chat needs.
    """
    from jinja2 import TemplateError

    try:
        before = enter(_template_of(renderer), turns)
        try:
            text = str(renderer.apply_chat_template(list(turns), tokenize=False, **settings))
        finally:
            leave(before)
    except TemplateError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError, ValueError) as error:
        raise TemplateError(f"it fails with {described(error)}") from error
    if not text.strip():
        raise TemplateError("it writes nothing")
    return text


def _template_of(renderer: Any) -> str | None:
    """The template that `apply_chat_template` takes of a renderer's named ones."""
    template = getattr(renderer, "chat_template", None)
    return template.get("default") if isinstance(template, Mapping) else template


def render_prompt(renderer: Any, turns: Sequence[Turn]) -> str:
    """A chat up to where the reply begins. `renderer` is a tokenizer or a processor of transformers.

    Raises:
        ItemError: the template refuses the chat (a system turn, for example).
    """
    from jinja2 import TemplateError

    try:
        return apply_template(renderer, turns, add_generation_prompt=True)
    except TemplateError as error:
        raise ItemError(TEMPLATE_REFUSED, one_line(error)) from error


class RenderedChats:
    """Remembers what a template wrote: a run needs a chat's text several times (its length, its batch, what the model saw).

    Args:
        characters: texts are kept until they have so many together; later ones are rendered whenever they are asked for.
    """

    def __init__(self, characters: int = KEPT_CHARACTERS) -> None:
        self._texts: dict[Hashable, str] = {}
        self._room = characters

    def text(self, key: Hashable, render: Callable[[], str]) -> str:
        """The text of `key`, rendered if it is not known. Safe among threads."""
        known = self._texts.get(key)
        if known is None:
            known = render()
            if self._room >= len(known):
                self._room -= len(known)
                self._texts[key] = known
        return known


def with_places(text: str, marks: Iterable[str], images: int, show: Callable[[str], str]) -> RenderedPrompt:
    """A rendered chat with the places of its images.

    Args:
        text: as the template wrote it; what people wrote has stand-ins for the names of special tokens, so marks are the template's own.
        marks: names of tokens that may be an image's; the first of which there are as many as images is.
        images: number of images in the chat.
        show: gives a piece of text its names back.
    """
    mark = next((mark for mark in marks if mark and text.count(mark) == images), "") if images else ""
    if not mark:
        return RenderedPrompt(show(text))
    first, *rest = map(show, text.split(mark))
    written, places = first, []
    for piece in rest:
        places.append(len(written))
        written += mark + piece
    return RenderedPrompt(written, tuple(places))


def image_marks(processor: Any) -> list[str]:
    """Names that a processor's template may write in the place of an image; the most likely first."""
    own = [getattr(processor, name, None) for name in ("image_token", "boi_token", "start_image_token", "fake_image_token")]
    others = [value for name, value in vars(processor).items() if name.endswith("_token")]
    return [name for name in dict.fromkeys([*own, *others]) if isinstance(name, str) and name.strip()]


def render_task_chat(tokenizer: Any, chat: Sequence[Mapping[str, Any]], add_generation_prompt: bool, name: str) -> str:
    """A chat of an lm-eval task, without its system turns if the template refuses them, as lm-eval does it.

    Without the generation prompt the last turn stays open. `name` is the model's, for the error.

    Raises:
        UserError: the template refuses the chat.
    """
    from jinja2 import TemplateError

    ending = {"add_generation_prompt": add_generation_prompt, "continue_final_message": not add_generation_prompt}
    try:
        return apply_template(tokenizer, chat, **ending)
    except TemplateError as error:
        without_system = [turn for turn in chat if turn["role"] != "system"]
        if len(without_system) == len(chat):
            raise UserError(f"the chat template of model {name!r} refuses the task's chat: {one_line(error)}") from error
        return render_task_chat(tokenizer, without_system, add_generation_prompt, name)


# ---------------------------------------------------------------- tokens


def special_tokens_of(tokenizer: Any, text: str) -> dict[str, bool]:
    """Arguments of `encode`: special tokens are added, except where the text starts with the first of them already (as lm-eval does it)."""
    first = tokenizer.bos_token or tokenizer.eos_token
    return {"add_special_tokens": False} if first and text.startswith(first) else {}


def encode_prompt(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a rendered chat, special tokens included."""
    return list(tokenizer.encode(text, **special_tokens_of(tokenizer, text)))
