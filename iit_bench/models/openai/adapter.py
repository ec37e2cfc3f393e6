"""`openai:MODEL --base-url URL`: a model behind any server that speaks OpenAI's protocol, asked in its own chat format.

Chats go to /chat/completions, images as data URLs; such a server can only generate. To score replies, see token_adapter.py.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from iit_bench.errors import ItemError, MachineError, UserError
from iit_bench.models.contract import (
    Capabilities,
    GenerateRequest,
    GenerateResult,
    Model,
    ModelInfo,
    RollingRequest,
    ScoreRequest,
    ScoreResult,
    TextGenerateRequest,
    TextModel,
    TextRequest,
    TextScoreRequest,
)
from iit_bench.models.openai.batches import answer_by_batches
from iit_bench.models.openai.client import BUSY, UNUSABLE, Client, RejectedError, UnavailableError, UnusableError
from iit_bench.models.openai.encoding import (
    chat_body,
    chat_messages,
    chat_to_text,
    cut_reply,
    decoding_settings,
    read_chat,
    read_text,
    text_to_chat,
)
from iit_bench.models.openai.probe import NO_ACCESS, TAKEN, Findings, chat_probe, rejected
from iit_bench.models.openai.scoring import Request
from iit_bench.models.reasoning import split_text
from iit_bench.server_options import SERVER

Read = TypeVar("Read")
NEEDS_TOKENIZER = (
    "that needs --tokenizer (the model's folder or Hub id) and a server that returns the log-probabilities of given tokens, as vLLM and "
    "SGLang do"
)
MAYBE_ACCESS = (301, 302, 303, 307, 308, *NO_ACCESS, 404)  # statuses that may concern every request, not only this one
NO_SUCH_PATH = (404, 405)


class ChatServer(Model, TextModel):
    """A chat in, a reply out."""

    tokenizer: Any = None

    def __init__(self, name: str, served: str, client: Client, findings: Findings) -> None:
        """`served`: the model's name on the server."""
        self.served, self.client, self.findings = served, client, findings
        self.capabilities = self._capabilities(scores=False, why_not={"scores": NEEDS_TOKENIZER})
        self.info = self._describe(name)

    def _capabilities(self, *, scores: bool, scores_images: bool = False, why_not: Mapping[str, str]) -> Capabilities:
        images = self.findings.images
        return Capabilities(
            takes_images=images == TAKEN,
            takes_raw_text=True,
            scores=scores,
            scores_images=scores_images,
            reasons=self.findings.reasons,
            images_unknown=self.findings.images_unknown,
            in_bulk=self.client.options.batch_api,
            requests_at_once=self.client.options.concurrency,
            why_not=dict(why_not) | ({} if images == TAKEN else {"takes_images": images}),
        )

    def _describe(self, name: str, template_sha256: str = "", **details: Any) -> ModelInfo:
        images, spelling = self.findings.images, self.findings.spelling
        temperature = "0" if spelling.takes_temperature else "the server's own: it takes none"
        return ModelInfo(
            name=name,
            checkpoint=self.client.url,
            checkpoint_sha256="",
            chat_template_sha256=template_sha256,
            accepts_images=images == TAKEN,
            blind=False,
            dtype="unknown",
            device=SERVER,
            max_context=self.findings.max_context,
            settings={"chat_template_kwargs": dict(spelling.template_kwargs)} if spelling.template_kwargs else {},
            details={"images": images, "length limit": spelling.length_limit, "temperature": temperature, **details}
            | ({"server": dict(self.findings.facts)} if self.findings.facts else {}),
        )

    @property
    def context_limit(self) -> int | None:
        """None: texts are sent whole, only the server counts their tokens."""
        return None

    # ------------------------------------------------------------ requests

    def ask(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Read]) -> Read:
        """One request of a run.

        Raises:
            ItemError: the server answers others, but not this one.
            MachineError: the server is unavailable.
            UserError: the server rejects every request by now.
        """
        try:
            return self.client.post(path, body, read)
        except RejectedError as error:
            if error.status in MAYBE_ACCESS and isinstance(again := self._probe_again(), RejectedError):
                raise rejected(self.client, self.served, again) from error
            reason = "context overflow" if error.code == "context_length_exceeded" else "refused by the server"
            raise ItemError(reason, str(error)) from error
        except UnusableError as error:
            raise ItemError(UNUSABLE, str(error)) from error
        except UnavailableError as error:
            if not error.may_be_the_request or isinstance(self._probe_again(), UnavailableError):
                raise self._unavailable(error) from error
        try:  # the server answers other requests: repeat this one, for it may have been unavailable only for a moment
            return self.client.post(path, body, read, retries=0)
        except (RejectedError, UnavailableError) as error:
            if isinstance(error, UnavailableError) and not error.may_be_the_request:
                raise self._unavailable(error) from error
            raise ItemError("the server fails on it", str(error)) from error

    def _unavailable(self, error: UnavailableError) -> MachineError:
        state = "too busy" if error.status in BUSY else "unavailable"
        return MachineError(f"the server at {self.client.url} is {state}", str(error))

    def _probe_again(self) -> RejectedError | UnavailableError | None:
        """What is wrong with a request that the server answered at the start; None if it answers again."""
        path, body, read = self._probe()
        try:
            self.client.post(path, body, read, retries=0)
        except (RejectedError, UnavailableError) as error:
            return error
        return None

    def _probe(self) -> Request:
        return chat_probe(self.served, self.findings.spelling)

    def _chat_body(self, chat: Sequence[Mapping[str, Any]], max_new_tokens: int, **settings: Any) -> dict[str, Any]:
        return chat_body(self.served, self.findings.spelling, chat, max_new_tokens, **settings)

    # ------------------------------------------------------------ chats

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        return 1  # unknown: the server counts, and rejects what is too long

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        raise UserError(f"model {self.info.name!r} cannot score replies: {self.capabilities.why_not['scores']}")

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        return [self._generate(request) for request in batch]

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        return self.ask(*self._body(request), lambda reply: self._read(request, reply))

    def _body(self, request: GenerateRequest | TextGenerateRequest) -> tuple[str, dict[str, Any]]:
        """Path and body of a request. A server has one limit for reasoning and reply together: a reply may take what reasoning leaves.

        A chat that `render_text` made goes to /chat/completions, any other text to /completions.
        """
        if isinstance(request, GenerateRequest):
            return "/chat/completions", self._chat_body(chat_messages(request.messages), request.longest)
        settings, chat = decoding_settings(request), text_to_chat(request.context)
        if chat is not None:
            return "/chat/completions", self._chat_body(chat, request.max_new_tokens, **settings)
        return "/completions", {"model": self.served, "prompt": request.context, "max_tokens": request.max_new_tokens, **settings}

    def _read(self, request: GenerateRequest | TextGenerateRequest, reply: Any) -> GenerateResult:
        """The server's reply to it."""
        if isinstance(request, GenerateRequest):
            result = split_text(read_chat(reply))
            return dataclasses.replace(result, text=result.text.strip())
        read = read_text if text_to_chat(request.context) is None else read_chat
        return cut_reply(read(reply), request.until)

    def answer_in_bulk(
        self,
        requests: Mapping[str, GenerateRequest | TextGenerateRequest],
        state: Path,
        settle: Callable[[Mapping[str, GenerateResult]], None],
    ) -> dict[str, ItemError]:
        bodies = {key: functools.partial(self._body, request) for key, request in requests.items()}
        try:
            return answer_by_batches(self.client, state, bodies, lambda key, reply: self._read(requests[key], reply), settle)
        except UnavailableError as error:
            raise self._unavailable(error) from error

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
        if text_to_chat(request.context) is None:
            return self.continue_prompt(request.context, request, decoding_settings(request))
        return self.ask(*self._body(request), lambda reply: self._read(request, reply))

    def continue_prompt(self, prompt: Any, request: TextGenerateRequest, settings: Mapping[str, Any]) -> GenerateResult:
        """The continuation of a prompt, a text or token ids, up to the request's length and stop strings.

        Raises:
            ItemError, MachineError: as `ask`.
            UserError: as `ask`, or the server has no /completions.
        """
        body = {"model": self.served, "prompt": prompt, "max_tokens": request.max_new_tokens, **settings}
        try:
            return cut_reply(self.ask("/completions", body, read_text), request.until)
        except ItemError as error:
            if isinstance(error.__cause__, RejectedError) and error.__cause__.status in NO_SUCH_PATH:
                raise UserError(
                    f"the server at {self.client.url} does not continue raw text ({error.detail}); add --apply-chat-template"
                ) from error
            raise

    def render_text(self, chat: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        if not add_generation_prompt:
            raise UserError(
                f"a task begins the reply itself, which model {self.info.name!r} cannot continue in a chat; leave out --apply-chat-template"
            )
        return chat_to_text(chat)
