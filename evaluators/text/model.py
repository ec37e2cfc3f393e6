"""Any of our models as lm-eval sees a model: loglikelihood, rolling loglikelihood and generation, answered by our engine.

lm-eval renders prompts, picks few-shot examples and computes metrics; the engine dedupes, batches, logs every answer and resumes after a
kill. All choices of a document that share a context become one request, so a context is encoded once.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from iit_bench.engine.log import Response, ResponseLog
from iit_bench.engine.plan import BatchLimits, Request
from iit_bench.engine.run import Failure, answer
from iit_bench.errors import OthersAtWork, UserError, one_line
from iit_bench.models.contract import (
    GenerateResult,
    Model,
    RollingRequest,
    ScoreResult,
    TextGenerateRequest,
    TextScoreRequest,
    as_text_model,
)
from iit_bench.progress import bar

DEFAULT_NEW_TOKENS = 256  # where neither the task nor the user sets it (lm-eval's own default)
REFUSALS = (ValueError, TypeError)  # what transformers raises for a setting
NO_SCORE = float("-inf")  # of a request that failed; its document counts as wrong whatever lm-eval makes of it


@dataclass(frozen=True)
class FailedDocument:
    """A document one of whose requests has no answer."""

    task: str
    document: int  # lm-eval's doc_id
    failure: Failure


class EngineLM(LM):
    """lm-eval's view of one of our models. Attributes: `failed` (documents), `cut` (task -> prompts that filled the model's context)."""

    def __init__(
        self, model: Model, log: ResponseLog, limits: BatchLimits, progress: bool = False, *, request_types: Collection[str] = ()
    ) -> None:
        """See the class.

        Args:
            model: to ask.
            log: of the run.
            limits: of batches.
            progress: show a bar.
            request_types: names of the methods that lm-eval will call, each once. After the last of them, answers that other processes have
                in hand end the evaluation (OthersAtWork), before any metric is computed; if none are named, after each.
        """
        super().__init__()
        self._awaited = set(request_types)
        self._elsewhere: OthersAtWork | None = None
        self.model = model
        self.text_model = as_text_model(model)
        self.tokenizer = self.text_model.tokenizer
        self.failed: list[FailedDocument] = []
        self.cut: Counter[str] = Counter()
        self.at_work = False  # an exception now is the engine's or the model's, not the task's
        self._log, self._limits, self._progress = log, limits, progress

    # ------------------------------------------------------------ what lm-eval asks

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        # Of each context of a document: its continuations, each with the numbers of its requests.
        grouped: dict[tuple[str, str | None, int | None], dict[str, list[int]]] = defaultdict(dict)
        for number, request in enumerate(requests):
            context, continuation = request.args[:2]
            grouped[context, request.task_name, request.doc_id].setdefault(continuation, []).append(number)
        asked = [TextScoreRequest(group[0], tuple(continuations)) for group, continuations in grouped.items()]
        scores = [(NO_SCORE, False)] * len(requests)
        for continuations, one in zip(grouped.values(), self._answer(asked, [group[1:] for group in grouped]), strict=True):
            if isinstance(one, ScoreResult):
                for numbers, logprob, greedy in zip(continuations.values(), one.logprobs, one.greedy, strict=True):
                    for number in numbers:
                        scores[number] = (logprob, greedy)
        self._end("loglikelihood")
        return scores

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        answers = self._answer([RollingRequest(request.args[0]) for request in requests], _documents(requests))
        self._end("loglikelihood_rolling")
        return [one.logprobs[0] if isinstance(one, ScoreResult) else NO_SCORE for one in answers]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        generations = [self._generation(*request.args[:2]) for request in requests]
        seen: Counter[str] = Counter()
        for i, one in enumerate(generations):
            if dict(one.settings).get("do_sample"):  # equal requests have answers of their own
                generations[i] = dataclasses.replace(one, repeat=seen[repr(one)])
                seen[repr(one)] += 1
        alike: dict[str, list[int]] = defaultdict(list)  # requests that may share a batch
        for i, one in enumerate(generations):
            alike[repr((one.until, one.max_new_tokens, one.settings))].append(i)
        texts = [""] * len(requests)
        for members in alike.values():
            answers = self._generate([generations[i] for i in members], _documents([requests[i] for i in members]))
            for i, result in zip(members, answers, strict=True):
                texts[i] = result.text if isinstance(result, GenerateResult) else ""
        self._end("generate_until")
        return texts

    def _generate(
        self, alike: Sequence[TextGenerateRequest], documents: Sequence[tuple[str | None, int | None]]
    ) -> Sequence[Response | Failure]:
        """Answers to requests of equal settings.

        Raises:
            UserError: the model refuses them all for settings of the user: a temperature of 0 beside do_sample, an unknown name.
        """
        settings = alike[0].settings
        given = settings != (("do_sample", False),)
        try:
            answers = self._answer(alike, documents)
        except UserError as error:
            if given and isinstance(error.__cause__, REFUSALS):
                raise _refused(settings, one_line(error.__cause__)) from error
            raise
        if given:
            names = [kind.__name__ for kind in REFUSALS]
            details = [one.detail for one in answers if isinstance(one, Failure) and one.reason in names]
            if len(details) == len(answers):
                raise _refused(settings, details[0])
        return answers

    def _generation(self, context: str, settings: dict[str, Any]) -> TextGenerateRequest:
        """lm-eval's generation settings as a request; read by lm-eval's own functions."""
        given = dict(normalize_gen_kwargs(settings, DEFAULT_NEW_TOKENS))
        until = handle_stop_sequences(given.pop("until", None), eos=None)
        length = int(given.pop("max_gen_toks"))
        if not given.get("do_sample"):  # greedy: these would only be warned of
            for name in ("temperature", "top_p", "top_k", "min_p"):
                given.pop(name, None)
            given["do_sample"] = False
        return TextGenerateRequest(context, until=tuple(until), max_new_tokens=length, settings=tuple(sorted(given.items())))

    # ------------------------------------------------------------ chats

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self.text_model.render_text(chat_history, add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        return self.model.info.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return getattr(self.tokenizer, "chat_template", "") if chat_template else None

    def get_model_info(self) -> dict[str, Any]:
        """Written by lm-eval into its results."""
        info = self.model.info
        return {
            "model": info.name,
            "model_num_parameters": info.parameters,
            "model_dtype": info.dtype,
            "model_sha": info.checkpoint_sha256,
            "model_source": info.checkpoint,
        }

    # ------------------------------------------------------------ the engine

    def _answer(self, requests: Sequence[Request], documents: Sequence[tuple[str | None, int | None]]) -> Sequence[Response | Failure]:
        self.at_work = True
        with bar(f"{self.model.info.name}: {len(requests)} requests", len(requests), self._progress) as advance:
            try:
                answers: Sequence[Response | Failure] = answer(self.model, requests, self._log, self._limits, advance).answers
            except OthersAtWork as error:  # requests of the other kinds can be answered meanwhile
                self._elsewhere = error
                answers = [Failure("machine", "in the hands of another process", "")] * len(requests)
        self.at_work = False
        if self._elsewhere:
            return answers
        for request, (task, document), one in zip(requests, documents, answers, strict=True):
            if isinstance(one, Failure):
                self.failed.append(FailedDocument(task or "", -1 if document is None else document, one))
            elif self._full(request, one):
                self.cut[task or ""] += 1
        return answers

    def _end(self, request_type: str) -> None:
        """All requests of a kind have been asked.

        Raises:
            OthersAtWork: it was the last kind, and other processes have some requests in hand, or write the results.
        """
        self._awaited.discard(request_type)
        if self._awaited:
            return
        if self._elsewhere:
            raise self._elsewhere
        self._log.finish()

    def _full(self, request: Request, result: Response) -> bool:
        """Whether the prompt fills the model's context, so that (but for an exact fit) its beginning was cut off."""
        limit = self.text_model.context_limit
        if limit is None or isinstance(request, RollingRequest):
            return False
        if isinstance(request, TextGenerateRequest):
            return result.prompt_tokens + request.max_new_tokens >= limit
        return isinstance(result, ScoreResult) and result.prompt_tokens + result.tokens[0] > limit


def _refused(settings: Sequence[tuple[str, Any]], reason: str) -> UserError:
    words = ", ".join(f"{name}={value}" for name, value in settings)
    return UserError(f"the model cannot generate with {words} ({reason}); give other settings with --gen-kwargs")


def _documents(requests: Sequence[Instance]) -> list[tuple[str | None, int | None]]:
    return [(request.task_name, request.doc_id) for request in requests]
