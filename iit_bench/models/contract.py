"""What a model must offer so that every evaluator can score it.

A model renders chats with its own template and answers batches. It knows nothing of benchmarks, logs or resuming (see `engine/`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from iit_bench.errors import ItemError, UserError
from iit_bench.server_options import ServerOptions
from iit_bench.token_trees import TokenPath, symbols
from iit_bench.types import AttentionCurves, Message, Style

# How a model runs rows of text: "tree" = requests that share beginnings go through it as rows of one tree (`iit_bench.token_trees`), every
# token once; "plain" = each request by itself, in padded batches where the model allows them.
Way = Literal["tree", "plain"]
STYLES: tuple[Style, ...] = get_args(Style)


UNUSED_WEIGHTS = (
    "unused weights"  # in `ModelInfo.details`: count and first name of weights of the checkpoint that the model has no place for
)
TEXT_ONLY = "transformers knows its architecture as one for text only"  # why a model takes no images


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a model takes and gives, and why it lacks what it lacks; evaluators read this before they send a request.

    Raises:
        ValueError: something is lacking and `why_not` has no sentence for it.
    """

    takes_chats: bool = True
    takes_images: bool = True  # in chats
    takes_histories: bool = True  # chats with earlier turns than the question that is asked
    takes_raw_text: bool = False  # lm-eval's requests; such a model is a `TextModel`
    scores: bool = True  # log-probabilities of given replies
    scores_images: bool = True  # also of replies to chats with images
    generates: bool = True
    reasons: bool = False  # its replies may begin with reasoning: the chat template or the server declares it
    images_unknown: bool = False  # `takes_images` is False because a test image made the server fail, not because it takes none
    recorded: bool = False  # it stands for a model that is not there: it is never asked, its answers are in the log
    in_bulk: bool = False  # `answer_in_bulk` takes all requests of a job at once
    shows_attention: bool = False  # `observe_attention`: its passes are made here, by transformers, and it takes images
    requests_at_once: int | None = None  # its methods are called from that many threads, one request per call; None = in batches
    styles: tuple[Style, ...] = STYLES  # that it can be asked in
    why_not: Mapping[str, str] = field(default_factory=dict)  # name of a field above → one sentence: the reason, or what would be needed

    def __post_init__(self) -> None:
        names = ("takes_chats", "takes_images", "takes_histories", "takes_raw_text", "scores", "generates")
        lacking = {name for name in names if not getattr(self, name)}
        lacking |= {"scores_images"} if self.takes_images and self.scores and not self.scores_images else set()
        lacking |= {"styles"} if set(self.styles) != set(STYLES) else set()
        if silent := sorted(lacking - set(self.why_not)):
            raise ValueError(f"capabilities lack {', '.join(silent)} without a sentence in why_not")


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What determines a model's answers, as written to run.json and hashed into every response's key."""

    name: str  # as given on the command line
    checkpoint: str  # path, Hub id or "" where there is none
    checkpoint_sha256: str  # of the weights and configuration files; "" where there is none
    chat_template_sha256: str  # of the template's text; "" where there is none
    accepts_images: bool  # False = tiers with images are not run
    blind: bool  # images are removed on purpose before the model sees the chat
    dtype: str  # "float32", "bfloat16", …
    device: str  # "cpu", "cuda", …, SERVER
    max_context: int | None  # tokens of prompt and reply together; None = unlimited
    parameters: int | None = None  # number of weights; None = not known
    settings: Mapping[str, Any] = field(default_factory=dict)  # whatever else determines answers, as JSON: hashed, equal on resuming
    details: Mapping[str, Any] = field(default_factory=dict)  # anything else worth showing; not hashed; `rows`: how rows are asked, and why

    def with_settings(self, **more: Any) -> ModelInfo:
        """The record with further settings."""
        return replace(self, settings={**self.settings, **more})


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What a user may set for any model. A factory refuses, with a UserError, what it cannot honour."""

    checkpoint: str | None = None
    device: str = "auto"  # "auto" = cuda, else mps, else cpu
    dtype: str = "auto"  # "auto" = the checkpoint's own on an accelerator, float32 on CPU
    device_map: str = ""  # by which layers lie on several devices: "auto", another name that accelerate knows, or a JSON object
    quantization: str = ""  # by which weights are quantised while they are loaded: a name of `placement.QUANTIZATION`
    attn_implementation: str = ""  # of transformers; "" = the model's default
    seed: int = 0
    trust_remote_code: bool = False
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)  # arguments that the chat template takes by name
    processor_kwargs: Mapping[str, Any] = field(default_factory=dict)  # settings of the processor of images, e.g. min_pixels
    adapter: str | None = None  # folder or Hub id of a peft adapter to load onto the checkpoint
    date: str = ""  # what a template that asks the clock is told, ISO 8601; "" = today
    way: Literal["auto", "plain"] = "auto"  # how rows are run; "auto" = as a tree where that is verified at load
    image_cache: str = ""  # folder that keeps features of images for later runs; "" = in memory only
    server: ServerOptions = field(default_factory=ServerOptions)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Log-probabilities of several replies to one chat, which ends in a user turn."""

    messages: tuple[Message, ...]
    continuations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Per continuation, in order: sum of its tokens' log-probabilities (nats), its token count, and whether greedy decoding returns it.

    The delimiter before the reply and the end-of-turn after it are not scored (docs/spec/iit.md#scoring).
    """

    logprobs: tuple[float, ...]  # sums over the tokens of each continuation, nats
    tokens: tuple[int, ...]  # of each continuation
    greedy: tuple[bool, ...]  # whether each token is the most likely one
    prompt_tokens: int  # image tokens included
    merged: int = 0  # how many continuations would share a token with the prompt's last word, and were tokenised by themselves


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A greedy reply to a chat that ends in a user turn."""

    messages: tuple[Message, ...]
    max_new_tokens: int = 32  # of the reply
    reasoning_tokens: int = 0  # that reasoning before the reply may take beside them

    @property
    def longest(self) -> int:
        """Tokens of reasoning and reply together, at most."""
        return self.max_new_tokens + self.reasoning_tokens


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """A generated reply. Token counts are 0 if a server does not report them."""

    text: str  # without reasoning and the end-of-turn token
    prompt_tokens: int  # image tokens included; 0 where a server does not count
    new_tokens: int  # generated, those of reasoning included
    finish_reason: str = ""  # "stop", "length" (cut at a limit), or a server's own; "" = not known
    reasoning: str = ""  # what the model wrote as reasoning before the reply, without marks
    reasoning_tokens: int = 0  # of `new_tokens`; 0 where a server does not count
    unfinished_reasoning: bool = False  # it ends inside its reasoning, so there is no reply

    def __post_init__(self) -> None:
        """Half of a surrogate pair (an emoji that a server cut in two) becomes "?": no file could hold it."""
        for name in ("text", "reasoning", "finish_reason"):
            try:
                getattr(self, name).encode()
            except UnicodeEncodeError:
                object.__setattr__(self, name, getattr(self, name).encode("utf-8", "replace").decode())

    @property
    def as_written(self) -> str:
        """The text with its reasoning before it in <think> marks, whatever marks the model uses."""
        if not self.reasoning and not self.unfinished_reasoning:
            return self.text
        return f"<think>{self.reasoning}" + ("" if self.unfinished_reasoning else f"</think>\n\n{self.text}")


@dataclass(frozen=True)
class RenderedPrompt:
    """A chat as the model's template writes it, up to where the reply begins; special tokens by their names."""

    text: str
    images: tuple[int, ...] = ()  # where in `text` the mark of each image begins, in characters; () also where the mark is not known


@dataclass(frozen=True, slots=True)
class TextScoreRequest:
    """Log-probabilities of several continuations of one raw text, as lm-eval asks for them: no chat template, no end of turn."""

    context: str  # may be empty: then the model's own first token takes its place
    continuations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RollingRequest:
    """Log-probability of a whole text, cut into windows of the model's context where it is longer; answered by one continuation."""

    text: str


@dataclass(frozen=True, slots=True)
class TextGenerateRequest:
    """A continuation of a raw text up to the first of the stop strings `until` (which is not part of it) or the model's end of text."""

    context: str
    _: KW_ONLY
    until: tuple[str, ...] = ()
    max_new_tokens: int = 256
    settings: tuple[tuple[str, Any], ...] = ()  # of the decoder, by name, e.g. ("temperature", 0.7); without "do_sample" it is greedy
    repeat: int = 0  # number of an equal request, where sampling makes their answers differ


def cut_at(text: str, stops: Iterable[str]) -> str:
    """`text` up to the first of the stop strings; empty ones stop nothing."""
    for stop in filter(None, stops):
        text = text.split(stop)[0]
    return text


TextRequest = TextScoreRequest | RollingRequest | TextGenerateRequest


Scored = ScoreRequest | TextScoreRequest | RollingRequest  # requests that may go through a model as paths of a tree


class Model(ABC):
    """One loaded model. Results do not depend on the other requests of a batch beyond floating-point rounding."""

    info: ModelInfo
    capabilities: Capabilities
    way: Way = "plain"
    # Further ways in which requests run, as found at load, by name: the last digits depend on them, so a run goes on with equal ones only.
    ways: Mapping[str, str] = MappingProxyType({})
    # One chat at a time, and of equal chats in a row only the first is read: then those are put in a row, which changes no digit.
    reads_alone: bool = False

    def prepare(self, benchmark: Any) -> None:  # noqa: B027 - optional
        """Read the benchmark's manifest before the run. Only baselines need it; a model under test must not."""

    def answer_in_bulk(
        self,
        requests: Mapping[str, GenerateRequest | TextGenerateRequest],
        state: Path,
        settle: Callable[[Mapping[str, GenerateResult]], None],
    ) -> dict[str, ItemError]:
        """Answer a whole job, which may take a day, where the capability `in_bulk` is there.

        Args:
            requests: by key.
            state: file of the run folder in which the model keeps what it has asked for; a killed run asks for nothing twice.
            settle: is given answers by key as they arrive, and keeps them.

        Returns:
            The requests without an answer, by key.

        Raises:
            MachineError: the model is unavailable.
            UserError: it cannot answer in bulk.
        """
        raise NotImplementedError

    @abstractmethod
    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        """Tokens of the longest row that `request` needs (prompt and reply), for batching and for the context check.

        Raises:
            ItemError: the request cannot be rendered, e.g. an image that does not decode.
        """

    def paths(self, request: Scored) -> list[TokenPath]:
        """The request in symbols, one path or more; none = it is asked plainly. Asked of models whose `way` is "tree".

        Raises:
            ItemError: the request cannot be rendered or encoded.
        """
        raise NotImplementedError

    def score_paths(self, batch: Sequence[Scored], paths: Sequence[Sequence[TokenPath]]) -> list[ScoreResult]:
        """As `score`, `score_text` and `score_rolling`, in one row of a tree; `paths` are what `paths` gave for each request."""
        raise NotImplementedError

    def rendered(self, request: ScoreRequest | GenerateRequest) -> RenderedPrompt | None:
        """What the model reads before it replies, as text; None where the chat is not rendered in this process (a server, a baseline).

        Raises:
            ItemError: the template refuses the chat.
        """
        return None

    def prompt(self, request: GenerateRequest | TextGenerateRequest) -> array[int]:
        """The prompt in symbols, to ask requests that begin alike together; empty if the model does not read what they share once.

        Raises:
            ItemError: the request cannot be rendered or encoded.
        """
        return symbols(())

    def rehearse(self, positions: int) -> None:
        """Run a pass over about so many positions as scoring would, on made-up text, to see how long it takes and whether it fits.

        Raises:
            NotImplementedError: the model has no such pass; its rows and batches have fixed sizes.
        """
        raise NotImplementedError

    def observe_attention(self, request: GenerateRequest) -> AttentionCurves:
        """What the last token of the prompt attends to, layer by layer; asked where the capability `shows_attention` is there.

        Raises:
            ItemError: the request cannot be rendered or encoded.
            UserError: the model's attention cannot be observed.
        """
        raise NotImplementedError

    @property
    def device_name(self) -> str:
        """The device as its maker names it, with its memory; for sizes that are remembered."""
        return self.info.device

    @abstractmethod
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        """Score every continuation of every request. Raises ItemError only if a single-request batch cannot be scored."""

    @abstractmethod
    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        """Greedy replies, one per request, ending at the model's own end-of-turn or at `max_new_tokens`."""


@runtime_checkable
class TextModel(Protocol):
    """A model that also takes raw text, as lm-eval's tasks need it (see models/raw_text.py for models of this process)."""

    info: ModelInfo
    capabilities: Capabilities
    tokenizer: Any | None  # of transformers; None if there is none in this process

    @property
    @abstractmethod
    def context_limit(self) -> int | None:
        """Tokens that a raw text and its continuation have together at most, what exceeds them is cut off; None if nothing is cut here."""

    @abstractmethod
    def text_tokens(self, request: TextRequest) -> int:
        """Tokens of the longest row that `request` needs, at most the model's context: what does not fit is cut off, as lm-eval does.

        Raises:
            UserError: the model cannot answer this kind of request, or no room is left beside the tokens to generate.
            ItemError: the request cannot be encoded.
        """

    @abstractmethod
    def score_text(self, batch: Sequence[TextScoreRequest]) -> list[ScoreResult]:
        """Score every continuation of every request. Raises ItemError only if a single-request batch cannot be scored."""

    @abstractmethod
    def score_rolling(self, batch: Sequence[RollingRequest]) -> list[ScoreResult]:
        """Score whole texts."""

    @abstractmethod
    def generate_text(self, batch: Sequence[TextGenerateRequest]) -> list[GenerateResult]:
        """Continue texts. All requests of a batch have the same `until`, `max_new_tokens` and `settings`."""

    @abstractmethod
    def render_text(self, chat: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """A chat ({"role", "content"} each) as the model's own template writes it; without the generation prompt the last turn stays open.

        Raises:
            UserError: the model has no chat template.
        """


def check_images_known(model: Model) -> None:
    """Refuse to run images past a server that failed with one: it may take them once it is repaired, or never.

    Raises:
        UserError: whether the model takes images is not known.
    """
    if model.capabilities.images_unknown:
        raise UserError(
            f"the server of model {model.info.name!r} fails with a test image ({model.capabilities.why_not['takes_images']}), so it is not "
            "known whether it takes any; repair it, or leave images out: tiers of T only with --tiers T,TT,TTT, or --blind"
        )


def as_text_model(model: Model) -> TextModel:
    """`model`, for raw text.

    Raises:
        UserError: it takes none.
    """
    if not model.capabilities.takes_raw_text:
        why = model.capabilities.why_not["takes_raw_text"]
        raise UserError(f"model {model.info.name!r} takes no raw text ({why}), so it cannot run lm-eval's tasks; use --suite iit")
    assert isinstance(model, TextModel)
    return model
