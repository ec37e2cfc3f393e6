"""`openai:MODEL --tokenizer PATH_OR_HUB_ID`: text is rendered and tokenised here, as for a model in this process, and the server goes on.

What that needs of the server, beside /completions:
- to score replies: a prompt of token ids, `echo` and `logprobs`, answered with `token_logprobs` and `top_logprobs` of the prompt's tokens
  (vLLM does so). A reply's tokens are cut as lm-eval cuts them, so the scores are those of the same model under `hf:`.
- to generate only: a prompt as text.

Chats with images still go to /chat/completions, and replies to them cannot be scored: /completions has no place for an image.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from iit_bench.errors import ItemError, UserError, first_line
from iit_bench.models.contract import GenerateRequest, GenerateResult, ModelOptions, ScoreRequest, ScoreResult, TextGenerateRequest
from iit_bench.models.openai.adapter import HELLO, ChatServer, decoding
from iit_bench.models.openai.client import GARBAGE, Client, Refused, Unwell
from iit_bench.models.openai.encoding import read_echo, read_text
from iit_bench.models.raw_text import PLAIN_TEMPLATE, Pair, RawText, joined
from iit_bench.models.scoring import split_continuation
from iit_bench.types import Message

NO_LOGPROBS = (
    "the server's /completions does not return the log-probabilities of a prompt's tokens; it must take token ids with echo and "
    "logprobs, as vLLM's does"
)


class TokenServer(RawText, ChatServer):
    """A text in tokens in, scores of its last ones or its continuation out."""

    def __init__(self, name: str, client: Client, options: ModelOptions) -> None:
        self.model = name.removeprefix("openai:")
        self.client = client
        self.tokenizer = load_tokenizer(client.options.tokenizer or "", options.trust_remote_code)
        self.has_chat_template = self.tokenizer.chat_template is not None
        if not self.has_chat_template:
            self.tokenizer.chat_template = PLAIN_TEMPLATE
        self._takes_tokens = True
        scores = self._greet_with_text(self.tokenizer.encode(HELLO))
        template = str(self.tokenizer.chat_template)
        images = self._images()
        why_not = {"scores_images": "/completions has no place for an image"} | ({} if scores else {"scores": NO_LOGPROBS})
        self.capabilities = self._capabilities(images, scores, why_not)
        info = self._describe(name, images, hashlib.sha256(template.encode()).hexdigest(), self._told_context())
        told = {"tokenizer": client.options.tokenizer, "prompts": "token ids" if self._takes_tokens else "text"}
        self.info = dataclasses.replace(info, details={**info.details, **told})

    # ------------------------------------------------------------ the first words

    def _greet_with_text(self, ids: list[int]) -> bool:
        """Find out what /completions takes, and whether it scores prompts.

        Raises:
            UserError: there is no /completions, or no server at all.
        """
        try:
            found = self._knock("/completions", self._echo_body([ids]), lambda reply: reply)
            return _has_logprobs(found, len(ids))
        except Refused as error:
            if error.status not in (400, 422):
                raise self._no_completions(error) from error
        self._takes_tokens = False
        try:
            self._knock(*self._small_request())
        except Refused as error:
            raise self._no_completions(error) from error
        return False

    def _no_completions(self, error: Refused) -> UserError:
        if error.status in (401, 402, 403):
            return self._not_welcome(error)
        return UserError(f"the server at {self.client.url} does not continue raw text ({error}), which --tokenizer needs; leave it out")

    def _images(self) -> str:
        """Chats with images go to /chat/completions, which a server of text alone may not have."""
        try:
            return self._try_image(self._greet())
        except UserError as error:
            if isinstance(error.__cause__, Unwell) and not error.__cause__.may_be_the_request:
                raise  # busy or gone: that says nothing of images
            return f"refused ({error})"

    def _told_context(self) -> int | None:
        """vLLM says in /models how long a prompt with its reply may be."""
        try:
            found = [entry.get("max_model_len") for entry in self.client.get("/models")["data"] if entry.get("id") == self.model]
            return int(found[0]) if found and found[0] else None
        except GARBAGE:
            return None

    def _small_request(self) -> tuple[str, dict[str, Any], Callable[[Any], Any]]:
        prompt = self._prompt(HELLO, self.tokenizer.encode(HELLO))
        return "/completions", {"model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0}, read_text

    # ------------------------------------------------------------ prompts

    @property
    def context_limit(self) -> int:
        """Two tokens less than the model takes: a server generates at least one, and our own models never read a reply's last."""
        return super().context_limit - 2

    def _prompt(self, text: str, ids: list[int]) -> Any:
        """What the server continues. A text that begins with a special token which the server's own tokenizer adds goes without it."""
        if self._takes_tokens:
            return ids
        first = self.tokenizer.bos_token or ""
        adds = bool(first) and self.tokenizer.encode("")[:1] == [self.tokenizer.bos_token_id]
        return text.removeprefix(first) if adds else text

    def render(self, messages: Sequence[Message]) -> str:
        chat = [{"role": message.role, "content": message.text} for message in messages]
        try:
            return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        except TemplateError as error:
            raise ItemError("chat template refused", str(error)) from error

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        """Without the tokens of images, which only the server knows."""
        if _has_images(request.messages):
            return 1
        prompt = self.render(request.messages)
        if isinstance(request, GenerateRequest):
            return len(self.encode_text(prompt)) + request.max_new_tokens
        pairs = [split_continuation(self.encode_text, prompt, text) for text in request.continuations]
        return max(len(before) + len(after) for before, after in pairs) + 1

    # ------------------------------------------------------------ scoring

    def _echo_body(self, prompts: list[list[int]]) -> dict[str, Any]:
        return {"model": self.model, "prompt": prompts, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        return [self._score(request) for request in batch]

    def _score(self, request: ScoreRequest) -> ScoreResult:
        if not self.capabilities.scores or _has_images(request.messages):
            why = self.capabilities.why_not["scores_images" if self.capabilities.scores else "scores"]
            raise UserError(f"model {self.info.name!r} cannot score replies: {why}")
        prompt = self.render(request.messages)
        pairs = [split_continuation(self.encode_text, prompt, text) for text in request.continuations]
        return joined(self._score_pairs(pairs), len(pairs[0][0]))

    def _score_pairs(self, pairs: Sequence[Pair]) -> list[ScoreResult]:
        """One request for all pairs: the server shares what they have in common, and their answers come together or not at all."""
        return self.ask("/completions", self._echo_body([before + after for before, after in pairs]), lambda reply: _scored(reply, pairs))

    def text_tokens(self, request: Any) -> int:
        if not self.capabilities.scores and not isinstance(request, TextGenerateRequest):
            raise self.cannot_score_text()
        return super().text_tokens(request)

    # ------------------------------------------------------------ generating

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        if _has_images(request.messages):
            return super()._generate(request)
        text = self.render(request.messages)
        asked = TextGenerateRequest(text, max_new_tokens=request.max_new_tokens)
        result = self.continue_prompt(self._prompt(text, self.encode_text(text)), asked, {"temperature": 0})
        return dataclasses.replace(result, text=result.text.strip())

    def generate_text(self, batch: Sequence[TextGenerateRequest]) -> list[GenerateResult]:
        return [self._continue(request) for request in batch]

    def _continue(self, request: TextGenerateRequest) -> GenerateResult:
        ids = self._cut_prompt(request)
        whole = len(ids) == len(self.encode_text(request.context))
        text = request.context if whole else str(self.tokenizer.decode(ids))
        return self.continue_prompt(self._prompt(text, ids), request, decoding(request))


def load_tokenizer(place: str, trust_remote_code: bool) -> Any:
    """A tokenizer of transformers, from a folder or the Hub.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    folder = Path(place).expanduser()
    try:
        return AutoTokenizer.from_pretrained(folder if folder.is_dir() else place, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--tokenizer {place!r} cannot be loaded ({first_line(error)}); give the model's folder or Hub id") from error


def _has_images(messages: Sequence[Message]) -> bool:
    return any(message.images for message in messages)


def _has_logprobs(reply: Any, tokens: int) -> bool:
    """Whether an echoed prompt comes with a log-probability for each token but the first."""
    try:
        (logprobs, tops), *_ = read_echo(reply, 1)
        return len(logprobs) >= tokens and all(isinstance(value, float) for value in logprobs[1:tokens]) and len(tops) >= tokens
    except GARBAGE:
        return False


def _scored(reply: Any, pairs: Sequence[Pair]) -> list[ScoreResult]:
    found = []
    for (logprobs, tops), (before, after) in zip(read_echo(reply, len(pairs)), pairs, strict=True):
        own = slice(len(before), len(before) + len(after))
        values, best = logprobs[own], tops[own]
        if len(values) != len(after) or not all(isinstance(value, (int, float)) for value in values):
            raise ValueError("log-probabilities are missing")
        greedy = all(value >= max(top.values()) for value, top in zip(values, best, strict=True))  # type: ignore[union-attr, operator]
        found.append(ScoreResult((float(sum(values)),), (len(after),), (greedy,), len(before)))  # type: ignore[arg-type]
    return found
