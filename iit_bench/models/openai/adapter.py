"""`openai:MODEL --base-url URL`: a model behind any server that speaks OpenAI's protocol, asked in its own chat format.

Chats go to /chat/completions, images as data URLs; such a server can only generate. What it takes is tried out at the start with a word or
two: the name of the length limit, whether it takes images or drops them in silence. To score replies, see token_adapter.py.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from iit_bench.errors import ItemError, MachineError, UserError
from iit_bench.models.contract import (
    SERVER,
    Capabilities,
    GenerateRequest,
    GenerateResult,
    Model,
    ModelInfo,
    ModelOptions,
    RollingRequest,
    ScoreRequest,
    ScoreResult,
    TextGenerateRequest,
    TextRequest,
    TextScoreRequest,
    cut_at,
)
from iit_bench.models.openai.client import BUSY, NOBODY, TOO_LATE, Client, Refused, Unwell
from iit_bench.models.openai.encoding import chat_messages, read_chat, read_text
from iit_bench.types import Image, Message

Read = TypeVar("Read")
CHAT = "\x00chat:"  # before a chat that lm-eval carries around as a text; no task's own text begins so
STOPS = 4  # stop strings that OpenAI's protocol allows; the others are cut off here
TAKEN = "taken"  # what becomes of images; else the reason why not
NEEDS_TOKENIZER = (
    "that needs --tokenizer (the model's folder or Hub id) and a server whose /completions takes token ids with echo and logprobs, "
    "as vLLM's does"
)
HELLO = "Answer with yes."
HELLO_TOKENS = 16
_HELLO = ({"role": "user", "content": HELLO},)
# How a server may want the length and the temperature to be named: OpenAI's reasoning models take neither `max_tokens` nor a temperature.
SPELLINGS: tuple[tuple[str, bool], ...] = (("max_tokens", True), ("max_completion_tokens", True), ("max_completion_tokens", False))
AT_THE_DOOR = (301, 302, 303, 307, 308, 401, 402, 403, 404)  # refusals that may be meant for us, not for the item


def load(name: str, options: ModelOptions) -> Model:
    """A model behind a server; `name` is `openai:MODEL`, MODEL as the server knows it.

    Raises:
        UserError: no server answers, it refuses, or it does not speak OpenAI's protocol.
    """
    plain = ModelOptions()
    for option in ("checkpoint", "device", "dtype"):
        if getattr(options, option) != getattr(plain, option):
            raise UserError(f"model {name!r} runs on a server, which was told so when it was started; leave out --{option}")
    client = Client(options.server)
    if options.server.tokenizer:
        from iit_bench.models.openai.token_adapter import TokenServer

        return TokenServer(name, client, options)
    return ChatServer(name, client)


class ChatServer(Model):
    """A chat in, a reply out."""

    tokenizer: Any = None

    def __init__(self, name: str, client: Client) -> None:
        self.model = name.removeprefix("openai:")
        self.client = client
        self._spelling = SPELLINGS[0]
        plain = self._greet()
        images = self._try_image(plain)
        self.capabilities = self._capabilities(images, scores=False, why_not={"scores": NEEDS_TOKENIZER})
        self.info = self._describe(name, images, "")

    def _capabilities(self, images: str, scores: bool, why_not: Mapping[str, str]) -> Capabilities:
        return Capabilities(
            takes_images=images == TAKEN,
            takes_raw_text=True,
            scores=scores,
            scores_images=False,
            requests_at_once=self.client.options.concurrency,
            why_not=dict(why_not) | ({} if images == TAKEN else {"takes_images": images}),
        )

    def _describe(self, name: str, images: str, template_sha256: str, max_context: int | None = None) -> ModelInfo:
        limit, temperature = self._spelling
        told = {"images": images, "length limit": limit, "temperature": "0" if temperature else "the server's own: it takes none"}
        return ModelInfo(
            name=name,
            checkpoint=self.client.url,
            checkpoint_sha256="",
            chat_template_sha256=template_sha256,
            accepts_images=images == TAKEN,
            blind=False,
            dtype="unknown",
            device=SERVER,
            max_context=max_context,
            details=told,
        )

    # ------------------------------------------------------------ the first words

    def _greet(self) -> GenerateResult:
        """Ask a word or two, in the first spelling that the server takes.

        Raises:
            UserError: nobody answers, or not in OpenAI's protocol.
        """
        refusals = []
        for self._spelling in SPELLINGS:
            try:
                return self._hello()
            except Refused as error:
                refusals.append(error)
                if error.status not in (400, 422):
                    break
        self._spelling = SPELLINGS[0]
        raise self._not_welcome(refusals[0])

    def _hello(self) -> GenerateResult:
        return self._knock("/chat/completions", self._chat_body(_HELLO, HELLO_TOKENS), read_chat)

    def _knock(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Read]) -> Read:
        """A first request: where no one is there at all, nobody waits."""
        try:
            try:
                return self.client.post(path, body, read, retries=0)
            except Unwell as error:
                if error.status in (NOBODY, TOO_LATE):
                    raise
                return self.client.post(path, body, read)  # it may still be loading the model
        except Unwell as error:
            raise self._silent(error) from error

    def _silent(self, error: Unwell) -> UserError:
        log = "look into its log; a model without chat template needs --tokenizer"
        fix = {NOBODY: "start it, or check --base-url", TOO_LATE: "look into its log"}.get(error.status, log)
        return UserError(f"the server at {self.client.url} gives no answer to a first question: {error}; {fix}")

    def _try_image(self, plain: GenerateResult) -> str:
        """`taken`, or why not. Some servers drop images in silence: then the prompt is no longer with one than without."""
        body = self._chat_body(chat_messages([Message("user", (_white_square(), HELLO))]), HELLO_TOKENS)
        try:
            seen = self.client.post("/chat/completions", body, read_chat)
        except Refused as error:
            return f"refused ({error})"
        except Unwell as error:
            if not error.may_be_the_request:
                raise self._silent(error) from error
            return f"not answered ({error})"  # llama.cpp says "not supported" with status 500
        if plain.prompt_tokens and seen.prompt_tokens <= plain.prompt_tokens:
            return f"dropped: a prompt has {seen.prompt_tokens} tokens with an image, {plain.prompt_tokens} without"
        return TAKEN

    # ------------------------------------------------------------ asking

    def _chat_body(self, chat: Sequence[Mapping[str, Any]], max_new_tokens: int, **settings: Any) -> dict[str, Any]:
        limit, takes_temperature = self._spelling
        how = {"temperature": 0} | settings
        if not takes_temperature:
            del how["temperature"]
        return {"model": self.model, "messages": list(chat), limit: max_new_tokens, **how}

    def ask(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Read]) -> Read:
        """One request of a run.

        Raises:
            ItemError: the server answers others, but not this one.
            MachineError: the server is gone.
            UserError: the server wants no more of us.
        """
        try:
            return self.client.post(path, body, read)
        except Refused as error:
            if error.status in AT_THE_DOOR and isinstance(closed := self._trouble(), Refused):
                raise self._not_welcome(closed) from error
            reason = "context overflow" if error.code == "context_length_exceeded" else "refused by the server"
            raise ItemError(reason, str(error)) from error
        except Unwell as error:
            if not error.may_be_the_request or isinstance(self._trouble(), Unwell):
                raise self._gone(error) from error
        try:  # it answers others: once more, for it may have been away meanwhile
            return self.client.post(path, body, read, retries=0)
        except (Refused, Unwell) as error:
            if isinstance(error, Unwell) and not error.may_be_the_request:
                raise self._gone(error) from error
            raise ItemError("the server fails on it", str(error)) from error

    def _gone(self, error: Unwell) -> MachineError:
        return MachineError(f"the server at {self.client.url} {'is gone' if error.status not in BUSY else 'is too busy'}", str(error))

    def _trouble(self) -> Refused | Unwell | None:
        """What the server has to say to a request that it took at the start."""
        try:
            self.client.post(*self._small_request(), retries=0)
        except (Refused, Unwell) as error:
            return error
        return None

    def _small_request(self) -> tuple[str, dict[str, Any], Callable[[Any], Any]]:
        return "/chat/completions", self._chat_body(_HELLO, HELLO_TOKENS), read_chat

    def _not_welcome(self, error: Refused) -> UserError:
        key = self.client.options.api_key_env
        fixes = {401: f"put a valid key into ${key}", 402: "see to your account", 403: f"check the key in ${key}"}
        fixes |= {404: f"check the name {self.model!r}, and that --base-url ends where the API begins, mostly in /v1"}
        other = "give the address that it names" if error.status < 400 else "a model without chat template needs --tokenizer"
        return UserError(f"the server at {self.client.url} refuses ({error}); {fixes.get(error.status, other)}")

    # ------------------------------------------------------------ chats

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        return 1  # unknown: the server counts, and refuses what is too long

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        raise UserError(f"model {self.info.name!r} cannot score replies: {self.capabilities.why_not['scores']}")

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        return [self._generate(request) for request in batch]

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        body = self._chat_body(chat_messages(request.messages), request.max_new_tokens)
        result = self.ask("/chat/completions", body, read_chat)
        return dataclasses.replace(result, text=result.text.strip())

    # ------------------------------------------------------------ raw text, for lm-eval

    def text_tokens(self, request: TextRequest) -> int:
        if not isinstance(request, TextGenerateRequest):
            raise self.cannot_score_text()
        return 1

    def score_text(self, batch: Sequence[TextScoreRequest]) -> list[ScoreResult]:
        raise self.cannot_score_text()

    def score_rolling(self, batch: Sequence[RollingRequest]) -> list[ScoreResult]:
        raise self.cannot_score_text()

    def cannot_score_text(self) -> UserError:
        """The error of a task that needs the scores of given replies."""
        why = self.capabilities.why_not["scores"]
        return UserError(f"model {self.info.name!r} cannot score replies, which a task asks for: {why}")

    def generate_text(self, batch: Sequence[TextGenerateRequest]) -> list[GenerateResult]:
        return [self._continue(request) for request in batch]

    def _continue(self, request: TextGenerateRequest) -> GenerateResult:
        """A chat that `render_text` made goes to /chat/completions, any other text to /completions."""
        how = decoding(request)
        if request.context.startswith(CHAT):
            body = self._chat_body(json.loads(request.context.removeprefix(CHAT)), request.max_new_tokens, **how)
            return until(self.ask("/chat/completions", body, read_chat), request.until)
        return self.continue_prompt(request.context, request, how)

    def continue_prompt(self, prompt: Any, request: TextGenerateRequest, how: Mapping[str, Any]) -> GenerateResult:
        body = {"model": self.model, "prompt": prompt, "max_tokens": request.max_new_tokens, **how}
        try:
            return until(self.ask("/completions", body, read_text), request.until)
        except ItemError as error:
            if "HTTP 404" in error.detail or "HTTP 405" in error.detail:
                raise UserError(
                    f"the server at {self.client.url} does not continue raw text ({error.detail}); add --apply-chat-template"
                ) from error
            raise

    def render_text(self, chat: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        if not add_generation_prompt:
            raise UserError(
                f"a task begins the reply itself, where model {self.info.name!r} cannot go on in a chat; leave out --apply-chat-template"
            )
        return CHAT + json.dumps(list(chat))


def decoding(request: TextGenerateRequest) -> dict[str, Any]:
    """lm-eval's settings in OpenAI's names.

    Raises:
        UserError: a setting that the protocol does not have.
    """
    given = dict(request.settings)
    sampled = given.pop("do_sample", False)
    if unknown := sorted(set(given) - {"temperature", "top_p", "seed"}):
        raise UserError(f"a server takes temperature, top_p and seed only, not {', '.join(unknown)}; leave it out of --gen-kwargs")
    how = {"temperature": 1.0, "seed": request.repeat} | given if sampled else {"temperature": 0}
    stops = [stop for stop in request.until if stop][:STOPS]
    return how | ({"stop": stops} if stops else {})


def until(result: GenerateResult, stops: Sequence[str]) -> GenerateResult:
    """The reply up to the first stop string: servers take few of them, and some leave the last one in."""
    return dataclasses.replace(result, text=cut_at(result.text, stops))


def _white_square() -> Image:
    from PIL import Image as PillowImage

    sink = io.BytesIO()
    PillowImage.new("RGB", (64, 64), "white").save(sink, "PNG")
    return Image(sink.getvalue())
