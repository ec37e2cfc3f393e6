"""What a server takes and returns, found out by requests of a few words before a run.

- /chat/completions: the name of the length limit, whether a temperature is taken, whether images are taken or dropped in silence.
- /completions, for a server that is sent tokens: whether it takes token ids, and whether it returns the log-probabilities of a prompt;
  SGLang's /generate, and chats that end in a given reply (`scoring`).
- what the server says of itself (`server_facts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from iit_bench.errors import UserError
from iit_bench.images import encode
from iit_bench.models.contract import GenerateResult
from iit_bench.models.openai.client import MALFORMED, NO_CONNECTION, TIMED_OUT, Client, RejectedError, UnavailableError
from iit_bench.models.openai.encoding import (
    SPELLINGS,
    Spelling,
    chat_body,
    chat_messages,
    count_of,
    echo_body,
    read_chat,
    read_echo,
    read_text,
)
from iit_bench.models.openai.scoring import Request, chat_request, generate_request
from iit_bench.models.openai.server_facts import plain, server_facts
from iit_bench.models.reasoning import split_text
from iit_bench.types import Image, Message

Read = TypeVar("Read")

TAKEN = "taken"  # of images; any other text is the reason why not
PROBE = "Answer with yes."
PROBE_TOKENS = 16
BAD_REQUEST = (400, 422)  # another spelling may do
NO_ACCESS = (401, 402, 403)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the probes found out."""

    spelling: Spelling
    images: str  # TAKEN, or why not
    takes_tokens: bool = False  # /completions takes prompts of token ids
    scored_by: str = ""  # how log-probabilities of given tokens are asked for, a name of `scoring.SCORING`; "" where they are not returned
    scores_images: bool = False  # /chat/completions returns the log-probabilities of a prompt with images
    max_context: int | None = None  # tokens of a prompt and its reply, if the server reports it
    reasons: bool = False  # its reply to a chat begins with reasoning
    images_unknown: bool = False  # an image made it fail, which does not say whether it takes any
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the server says of itself


def probe_chat_server(client: Client, model: str, template_kwargs: Mapping[str, Any]) -> Findings:
    """Probe /chat/completions. `template_kwargs`: what the server is to give its chat template.

    Raises:
        UserError: the server is unavailable, rejects the request, or does not speak OpenAI's protocol.
    """
    seen: dict[str, Any] = {}
    spelling, plain = _probe_chat(client, model, template_kwargs, seen)
    images, images_unknown = _probe_images(client, model, spelling, plain)
    facts = server_facts(client) | seen
    return Findings(spelling=spelling, images=images, images_unknown=images_unknown, reasons=_reasons(plain), facts=facts)


def probe_token_server(client: Client, model: str, tokenizer: Any, template_kwargs: Mapping[str, Any]) -> Findings:
    """Probe /completions, and /chat/completions for images, which a text-only server may lack.

    Raises:
        UserError: the server is unavailable or has no /completions.
    """
    facts, seen = server_facts(client), dict[str, Any]()
    takes_tokens, scored_by = _probe_completions(client, model, tokenizer, seen)
    if takes_tokens and (facts.get("software") == "sglang" or not scored_by) and _generate_scores(client, model, tokenizer):
        scored_by = "generate"
    spelling, images_unknown = SPELLINGS[0], False
    try:
        spelling, plain = _probe_chat(client, model, template_kwargs, seen)
        images, images_unknown = _probe_images(client, model, spelling, plain)
    except UserError as error:
        if isinstance(error.__cause__, UnavailableError) and not error.__cause__.may_be_the_request:
            raise  # busy or unavailable: that has nothing to do with images
        images = f"refused ({error})"
    return Findings(
        spelling=spelling,
        images=images,
        images_unknown=images_unknown,
        takes_tokens=takes_tokens,
        scored_by=scored_by,
        scores_images=images == TAKEN and _chat_scores(client, model, spelling),
        max_context=_reported_context(client, model),
        facts=facts | seen,
    )


# ---------------------------------------------------------------- requests


def chat_probe(model: str, spelling: Spelling) -> Request:
    """A chat that any chat server can answer."""
    return "/chat/completions", chat_body(model, spelling, [{"role": "user", "content": PROBE}], PROBE_TOKENS), read_chat


def text_probe(model: str, prompt: Any) -> Request:
    """A prompt (text or token ids) that any server with /completions can continue."""
    return "/completions", {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0}, read_text


def text_prompt(tokenizer: Any, text: str, ids: Sequence[int], takes_tokens: bool) -> Any:
    """What /completions continues. A text that begins with a special token which the server's own tokenizer adds goes without it."""
    if takes_tokens:
        return list(ids)
    first = tokenizer.bos_token or ""
    adds = bool(first) and tokenizer.encode("")[:1] == [tokenizer.bos_token_id]
    return text.removeprefix(first) if adds else text


def first_request(client: Client, path: str, body: Mapping[str, Any], read: Callable[[Any], Read]) -> Read:
    """The answer to a first request. No retries if nothing is listening; retries while the server loads its model.

    Raises:
        UserError: the server is unavailable.
        RejectedError: it rejects the request.
    """
    try:
        try:
            return client.post(path, body, read, retries=0)
        except UnavailableError as error:
            if error.status in (NO_CONNECTION, TIMED_OUT):
                raise
            return client.post(path, body, read)
    except UnavailableError as error:
        raise unavailable(client, error) from error


# ---------------------------------------------------------------- probes


def _noted(read: Callable[[Any], Read], seen: dict[str, Any]) -> Callable[[Any], Read]:
    """`read`, and the fingerprint of a reply put into `seen`: by it some servers tell which build and parameters answered."""

    def read_and_note(reply: Any) -> Read:
        if isinstance(reply, dict) and isinstance(reply.get("system_fingerprint"), str):
            seen.update(plain(reply, ("system_fingerprint",)))
        return read(reply)

    return read_and_note


def _probe_chat(client: Client, model: str, template_kwargs: Mapping[str, Any], seen: dict[str, Any]) -> tuple[Spelling, GenerateResult]:
    """The first spelling that the server takes, and its reply; `seen` as in `_noted`."""
    rejections = []
    for known in SPELLINGS:
        spelling = replace(known, template_kwargs=template_kwargs)
        try:
            path, body, read = chat_probe(model, spelling)
            return spelling, first_request(client, path, body, _noted(read, seen))
        except RejectedError as error:
            rejections.append(error)
            if error.status not in BAD_REQUEST:
                break
    if template_kwargs and rejections[0].status in BAD_REQUEST:
        _probe_chat(client, model, {}, seen)  # raises where it rejects this as well
        raise UserError(f"the server at {client.url} rejects --chat-template-kwargs ({rejections[0]}); leave it out")
    raise rejected(client, model, rejections[0])


def _reasons(plain: GenerateResult) -> bool:
    read = split_text(plain)
    return bool(read.reasoning or read.reasoning_tokens or read.unfinished_reasoning)


def _probe_images(client: Client, model: str, spelling: Spelling, plain: GenerateResult) -> tuple[str, bool]:
    """TAKEN, or why not; and whether that is not known, since the server fails with an image.

    Some servers drop images in silence: then a prompt has no more tokens with an image than without.
    """
    body = chat_body(model, spelling, chat_messages([Message("user", (_white_square(), PROBE))]), PROBE_TOKENS)
    try:
        reply = client.post("/chat/completions", body, read_chat)
    except RejectedError as error:
        return f"refused ({error})", False
    except UnavailableError as error:
        if not error.may_be_the_request:
            raise unavailable(client, error) from error
        return f"not answered ({error})", True  # a fault of the server, or "not supported", which llama.cpp reports with status 500
    if plain.prompt_tokens and reply.prompt_tokens <= plain.prompt_tokens:
        return f"dropped: a prompt has {reply.prompt_tokens} tokens with an image, {plain.prompt_tokens} without", False
    return TAKEN, False


def _white_square() -> Image:
    from PIL import Image as PillowImage

    return Image(encode(PillowImage.new("RGB", (64, 64), "white")))


def _probe_completions(client: Client, model: str, tokenizer: Any, seen: dict[str, Any]) -> tuple[bool, str]:
    """Whether /completions takes token ids, and "completions" if it returns the log-probabilities of a prompt; `seen` as in `_noted`.

    Raises:
        UserError: there is no /completions, or the server is unavailable.
    """
    ids = tokenizer.encode(PROBE)
    try:
        reply = first_request(client, "/completions", echo_body(model, [ids]), _noted(lambda reply: reply, seen))
        return True, "completions" if _has_logprobs(reply, len(ids)) else ""
    except RejectedError as error:
        if error.status not in BAD_REQUEST:
            raise _no_completions(client, model, error) from error
    try:
        first_request(client, *text_probe(model, text_prompt(tokenizer, PROBE, ids, takes_tokens=False)))
    except RejectedError as error:
        raise _no_completions(client, model, error) from error
    return False, ""


def _generate_scores(client: Client, model: str, tokenizer: Any) -> bool:
    """Whether SGLang's /generate returns the log-probabilities of a prompt's last tokens."""
    ids = tokenizer.encode(PROBE)
    return bool(client.root) and len(ids) > 1 and _answers(client, generate_request(model, [(ids[:1], ids[1:])]))


def _chat_scores(client: Client, model: str, spelling: Spelling) -> bool:
    """Whether /chat/completions returns the log-probabilities of a chat with an image that ends in a given reply."""
    return _answers(client, chat_request(model, spelling, [Message("user", (_white_square(), PROBE))], "yes"))


def _answers(client: Client, request: Request) -> bool:
    """Whether the server answers a request of a kind that it may not know, in the form that is read.

    Raises:
        UserError: the server is unavailable.
    """
    path, body, read = request
    try:
        try:
            client.post(path, body, read, retries=0)
        except UnavailableError as error:
            if error.may_be_the_request:
                return False
            client.post(path, body, read)
    except RejectedError:
        return False
    except UnavailableError as error:
        raise unavailable(client, error) from error
    return True


def _has_logprobs(reply: Any, tokens: int) -> bool:
    """Whether an echoed prompt comes with a log-probability for each token but the first."""
    try:
        (logprobs, tops), *_ = read_echo(reply, 1)
        return len(logprobs) >= tokens and all(isinstance(value, float) for value in logprobs[1:tokens]) and len(tops) >= tokens
    except MALFORMED:
        return False


def _reported_context(client: Client, model: str) -> int | None:
    """vLLM reports in /models how long a prompt with its reply may be."""
    try:
        lengths = [entry.get("max_model_len") for entry in client.get("/models")["data"] if entry.get("id") == model]
        return count_of(lengths[0]) or None if lengths else None
    except MALFORMED:
        return None


# ---------------------------------------------------------------- errors


def unavailable(client: Client, error: UnavailableError) -> UserError:
    """A probe has no answer."""
    other = "check its log; a model without chat template needs --tokenizer"
    fix = {NO_CONNECTION: "start it, or check --base-url", TIMED_OUT: "check its log"}.get(error.status, other)
    return UserError(f"the server at {client.url} is unavailable: {error}; {fix}")


def rejected(client: Client, model: str, error: RejectedError) -> UserError:
    """A probe is rejected."""
    key = client.options.api_key_env
    fixes = {401: f"put a valid key into ${key}", 402: "check your account", 403: f"check the key in ${key}"}
    fixes |= {404: f"check the name {model!r}, and that --base-url ends where the API begins, mostly in /v1"}
    other = "give the address that it names" if error.status < 400 else "a model without chat template needs --tokenizer"
    return UserError(f"the server at {client.url} rejects requests ({error}); {fixes.get(error.status, other)}")


def _no_completions(client: Client, model: str, error: RejectedError) -> UserError:
    if error.status in NO_ACCESS:
        return rejected(client, model, error)
    return UserError(f"the server at {client.url} does not continue raw text ({error}), which --tokenizer needs; leave it out")
