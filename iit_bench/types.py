"""The records every room shares. A field that goes to disk has its on-disk name and is documented here.

Changing the name, type or order of a field that is written is changing a format: raise its version in `storage/format.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Literal, get_args

Modality = Literal["T", "V"]
Style = Literal["cloze", "options", "letters"]
History = Literal["gold", "own"]
Scoring = Literal["loglikelihood", "generate"]
Suite = Literal["iit", "text", "vqa"]  # a run is of one suite
SUITES: tuple[Suite, ...] = get_args(Suite)
TaskSuite = Literal["text", "vqa"]  # of tasks of another tool, without a benchmark folder
TASK_SUITES: tuple[TaskSuite, ...] = get_args(TaskSuite)
Outcome = Literal["correct", "wrong", "unparsed", "truncated", "error"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
TaskState = Literal["scored", "not run", "failed"]
Transition = Literal["lost", "kept", "gained", "never"]  # right in the base only, in both, in the run only, in neither
TRANSITIONS: tuple[Transition, ...] = get_args(Transition)
PartOfLedger = Literal["all", "tier", "source", "subject", "turn", "history"]
PairedTest = Literal["", "mcnemar exact", "cluster sign-flip", "two-way t", "paired t"]  # "" where there is nothing to test
Kind = Literal["before", "image", "between", "after"]  # of a prompt's tokens, by their place beside its images; see `AttentionCurves`
KINDS: tuple[Kind, ...] = get_args(Kind)

IMAGE_MARK = "<image>"


# ---------------------------------------------------------------- what a model is asked


@dataclass(frozen=True)
class Image:
    """One image as the bytes of its file (PNG, JPEG, …); decoded only by the model that looks at it."""

    data: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


Part = str | Image


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn. `parts` keeps text and images in reading order, so no mark inside a text is ever mistaken for an image."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.parts if isinstance(part, Image))

    @property
    def text(self) -> str:
        """The text parts only, joined; for a text-only model or a baseline."""
        return "".join(part for part in self.parts if isinstance(part, str))


# ---------------------------------------------------------------- the benchmark folder


@dataclass(frozen=True)
class Question:
    """One multiple-choice item with one gold answer (docs/spec/iit.md#on-disk, table `questions`)."""

    id: str  # unique in the benchmark, e.g. "facts/capital/FR/2"
    modality: Modality  # "V" iff `images` is not empty
    source: str  # name it was built from, e.g. "facts", "lm-eval:openbookqa", "vlmeval:AI2D_TEST"
    subject: str  # category inside the source, e.g. "capital", "colour"
    cluster: str  # what it depends on and others may share: its image, passage or fact
    language: str  # BCP 47, e.g. "en", "zh"
    question: str  # an `<image>` mark places each image; without marks the images precede the text
    images: tuple[Image, ...]  # files as they were read; empty for a text question
    choices: tuple[str, ...]  # two or more, distinct
    answer: int  # index of the gold answer in `choices`
    answer_text: str  # == choices[answer]
    fixed_order: bool = False  # choices keep their source order (yes/no, "all of the above")
    prefix_choices: bool = False  # one choice begins with another, ignoring case (1 and 10); as a target left out of cloze runs


@dataclass(frozen=True)
class Dialogue:
    """Turns in order; the last is the target (docs/spec/iit.md#on-disk, table `dialogues`)."""

    id: str  # TIER:target
    tier: str  # pattern of modalities, e.g. "TTV"
    visual_share: float  # V turns / turns
    group: str  # all dialogues of one target share it (= target)
    turns: tuple[str, ...]  # question ids, the target last
    target: str  # == turns[-1]
    connectors: tuple[str, ...] = ()  # transition before turn i, "" for none; may be empty


def visual_share(tier: str) -> float:
    """V turns / turns of a tier's pattern."""
    return tier.count("V") / len(tier)


def tier_order(tier: str) -> tuple[float, int, str]:
    """Sort key from text-only (0) to multimodal-rich (1), ties by length, then by name (docs/spec/iit.md#words)."""
    return (visual_share(tier), len(tier), tier)


# ---------------------------------------------------------------- the run folder


@dataclass(frozen=True)
class Prediction:
    """One scored turn: a row of `predictions.parquet`.

    Under gold history only the target is scored; under own history every turn is (`position` < len(tier) - 1 are the history turns).
    """

    dialogue: str  # Dialogue.id
    position: int  # 0-based turn that was scored
    is_target: bool  # the last turn of its dialogue
    tier: str  # tier of the whole dialogue
    group: str  # target id of the dialogue
    question: str  # id of the question scored at this position
    source: str  # Question.source
    subject: str  # Question.subject
    cluster: str  # cluster of the scored question
    modality: Modality  # of the scored question
    choices: tuple[str, ...]  # in the order asked
    answer: int  # index of the gold answer
    logprobs: tuple[float, ...]  # sum of token log-probabilities per choice, nats; empty under generate or error
    choice_tokens: tuple[int, ...]  # tokens per choice
    chosen: int  # by highest logprob sum (or the extracted choice under generate); -1 = none
    chosen_norm: int  # by logprob / characters (Python len); == chosen under generate
    chosen_bytes: int  # by logprob / UTF-8 bytes; == chosen under generate
    outcome: Outcome  # of `chosen`
    reply: str  # generated text without reasoning, or the chosen choice
    prompt_tokens: int  # image tokens included; 0 where unknown
    reply_tokens: int  # tokens generated, reasoning included, or tokens of all choices scored
    history_clusters: tuple[str, ...] = ()  # cluster of each turn before this one, in order; () = none, or not recorded (older folders)
    finish_reason: str = ""  # generate: "stop", "length" (cut at a limit), or a server's own; "" = not known
    reasoning: str = ""  # generate: what the model wrote as reasoning before the reply
    reasoning_tokens: int = 0  # of `reply_tokens`; 0 where a server does not count
    evidence: str = ""  # generate: how the choice was found, `Evidence` of evaluators/iit/extraction.py; "" = not recorded
    moved_choices: tuple[int, ...] = ()  # arm reordered: chosen index in own order, choices moved by 1 … k-1; -1 = none; () = failed


@dataclass(frozen=True, kw_only=True)
class AttentionCurves:
    """Attention of the last prompt token over the layers, heads averaged.

    The kinds of token: `image` = places of an image's features; `before` = text before the first of them, `after` = text after the last,
    the last prompt token included; `between` = text between images, and marks between tiles of one image. What a template or a processor
    writes is text of its place.
    """

    layers: tuple[int, ...]  # of the decoder, by index from 0: those whose attention is over the prompt's tokens
    tokens: Mapping[Kind, int]  # of the prompt, by kind; their sum is the prompt's length
    attention: Mapping[Kind, tuple[float, ...]]  # mean weight per token and layer; a kind without tokens is left out
    # Wings: weight ρ of the visual learner (the textual one's is 1 - ρ), mean over those tokens of a kind that see both learners.
    router_layers: tuple[int, ...] = ()
    router: Mapping[Kind, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenPrompt:
    """What the model read before one scored turn: a row of `prompts.parquet`.

    The table is there where chats are rendered in the process that evaluates. A chat that the template refused has no row.
    """

    dialogue: str  # Dialogue.id
    position: int  # 0-based turn that was scored
    prompt: str  # the chat as the model's template wrote it, up to where the reply begins; special tokens by their names
    image_places: tuple[int, ...]  # where in `prompt` the mark of each image begins, in characters; empty also where the mark is not known
    sha256: str  # of `prompt` in UTF-8, to compare two runs


@dataclass(frozen=True)
class Figure:
    """A number with its 95% interval and its n; the one form in which results are shown.

    `value is None` means the figure does not exist. `method` and `note` are words for a reader; code decides by the other fields.
    """

    value: float | None  # None = the figure does not exist; `note` gives the reason
    _: KW_ONLY
    low: float | None = None  # lower end of the 95% interval
    high: float | None = None  # upper end of the 95% interval
    n: int = 0  # items; 0 beside a value: how many is not known (another tool's files do not tell)
    clusters: int = 0  # independent clusters among them
    se: float | None = None  # standard error; None = not known
    method: str = ""  # "wilson", "clustered wilson", "two-way clustered wilson", …
    from_stderr: bool = False  # the interval is made from the tool's own standard error, not from items
    note: str = ""  # why there is no value or no interval, or what a reader must know


@dataclass(frozen=True, kw_only=True)
class TierResult:
    """Figures of one tier, target turns only. Where the model cannot run the tier, they have no value and a `note`."""

    tier: str  # pattern of modalities
    visual_share: float  # V turns / turns
    acc: Figure  # over finished items; wrong = wrong, unparsed or truncated
    acc_norm: Figure  # by logprob / characters
    acc_bytes: Figure  # by logprob / UTF-8 bytes
    acc_strict: Figure  # error counted as wrong
    chance: float | None  # mean 1/k over the finished items
    acc_corrected: Figure  # (acc - chance) / (1 - chance)
    outcomes: dict[str, int]  # Outcome -> count


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Accuracy of one part of a tier, e.g. tier V, source easyvqa, subject colour."""

    tier: str  # pattern of modalities
    source: str  # Question.source
    subject: str  # Question.subject
    chance: float | None  # mean 1/k over the finished items
    acc: Figure  # over finished items
    acc_norm: Figure  # by logprob / characters


@dataclass(frozen=True, kw_only=True)
class PositionResult:
    """Own history: accuracy of one turn of a tier over all sources."""

    tier: str  # pattern of modalities
    position: int  # 0-based turn
    chance: float | None  # mean 1/k over the finished items
    acc: Figure  # over finished items
    acc_norm: Figure  # by logprob / characters


@dataclass(frozen=True, kw_only=True)
class PairedResult:
    """A paired difference over the same items (interleaving effect, forgetting, blind gap, comparison)."""

    over: str  # what the items are of: a tier, "T*", "V*" or "*" for a pool of tiers, or a task
    against: str  # what side B is: a tier, a run, or "this run"
    difference: Figure  # accuracy of A - accuracy of B
    test: PairedTest = ""  # how p was computed; "" where there is nothing to test
    p: float | None = None  # two-sided; None = not tested
    p_holm: float | None = None  # Holm-adjusted over the family the result belongs to
    detectable: float | None = None  # smallest difference that the test finds with 80% power at Holm's first step; None = none
    only_a: int = 0  # items that only A has right, or on which A scored higher
    only_b: int = 0  # items that only B has right, or on which B scored higher
    detectable_floor: int | None = None  # where fewer pairs differ: pairs, all one way, with which the test can be significant at all
    effective: float | None = None  # independent pairs that would give the same SE; None = not a difference of accuracies
    df: float | None = None  # degrees of freedom of a t test


@dataclass(frozen=True, kw_only=True)
class LedgerPart:
    """What became of the items of one part of a ledger."""

    by: PartOfLedger  # what the parts are parts by
    part: str  # a pool ("T*"), tier, source, "source/subject", position of a turn ("0"), or "none" | "text only" | "with image"
    counts: dict[str, int]  # Transition -> items; they sum to n
    rates: dict[str, Figure]  # Transition -> share of the items
    corrected: dict[str, Figure]  # Transition -> share corrected for lucky guesses; not clipped to 0 … 1


@dataclass(frozen=True, kw_only=True)
class LostItem:
    """A target that the base has right and the run has not, in one tier or more."""

    question: str  # Question.id
    source: str  # Question.source
    subject: str  # Question.subject
    dialogues: tuple[str, ...]  # Dialogue.id where it is lost, in tier_order
    n: int  # tiers in which both sides finished it


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What a run lost, kept, gained and never had against its base, item by item (docs/spec/iit.md#ledger)."""

    modality: Modality  # of the targets
    parts: tuple[LedgerPart, ...]  # the pool first
    lost: tuple[LostItem, ...]  # lost in most tiers first


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """Text-only forgetting against a base run on T targets (docs/spec/iit.md#text-only-forgetting)."""

    base: str  # name of the base run's model
    base_run: str  # its folder's name
    tiers: tuple[str, ...]  # the T-target tiers both ran
    per_tier: tuple[PairedResult, ...]  # base (A) minus this run (B), positive = lost; Holm over the tiers
    pooled: PairedResult  # base minus this run over all items of `tiers`, positive = lost
    base_acc: Figure  # of the base, over the same items
    acc: Figure  # of this run, over the same items
    retention: Figure  # (acc - chance) / (base - chance); no value where the base's 95% interval includes chance
    asked_apart: dict[str, tuple[str, ...]] = field(default_factory=dict)  # template, date, budget where unequal: what -> (base's, run's)
    ledger: Ledger | None = None  # of the same items; None in folders of earlier versions


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Where a run until decided stopped, and why (docs/spec/iit.md#decided-runs)."""

    verdict: Literal["lost", "not lost", "undecided"]  # above 0 | below `margin` | neither was found, or not yet in an incomplete run
    margin: float  # a loss below it does not matter, 0 … 1
    e_lost: float  # e-value that the loss is above 0, with the cluster that decided, or the last one
    e_not_lost: float  # e-value that the loss is below the margin, likewise
    e_needed: float  # what decides: 2/α
    groups: int  # targets up to the cluster that decided
    of_groups: int  # that the run would have asked
    loss: Figure  # base minus this run over those groups; its interval holds at any moment of stopping; no value where `note` is set
    asked: int = 0  # targets that were asked: those of `groups` and the rest of their block; 0 = not recorded (older folders)
    note: str = ""  # why the run was asked whole and no verdict was looked for; "" where one was


@dataclass(frozen=True, kw_only=True)
class Results:
    """`results.json` of a run of suite iit."""

    complete: bool  # every item finished without an error of the machine
    n_dialogues: int  # that were asked
    outcomes: dict[str, int]  # Outcome -> targets
    # Scores: metric ("acc" | "acc_norm" | "acc_bytes" | "acc_corrected") -> mean over tiers of the benchmark; no value unless all were run.
    iit: dict[str, Figure]  # over all tiers
    t_score: dict[str, Figure]  # over the tiers that end in T
    v_score: dict[str, Figure]  # over the tiers that end in V
    text_only_score: dict[str, Figure] = field(default_factory=dict)  # over the tiers made only of T
    subset_score: dict[str, Figure] = field(default_factory=dict)  # over `subset_tiers`; {} where every tier was asked for
    subset_tiers: tuple[str, ...] = ()  # those with a result, in tier_order, where the run was asked for some of the benchmark's tiers
    tiers: tuple[TierResult, ...]  # in tier_order
    breakdown: tuple[Breakdown, ...]  # each tier by source and subject
    interleaving: tuple[PairedResult, ...]  # each tier of 2+ turns against its target without history
    positions: tuple[PositionResult, ...] = ()  # own history only
    forgetting: Forgetting | None = None  # None = no base run was given
    advice: str = ""  # generate: what to change, where most replies are truncated or unparsed
    decision: Decision | None = None  # None = the run was not to stop when decided


# ---------------------------------------------------------------- the run folder of the suites "text" and "vqa"


@dataclass(frozen=True)
class TaskItem:
    """One metric of one scored item of a task: a row of `items.parquet`.

    An item is what the task counts once: a question, or all circular copies of one.
    """

    task: str  # name as asked for, e.g. "arc_easy", "MMBench_DEV_EN"
    item: str  # the task's own id
    cluster: str  # what it depends on and other items may share: its image, passage, …
    metric: str  # a key of TaskResult.scores
    score: float  # of this item, 0 … 1 where the metric is an accuracy
    outcome: Outcome  # correct = score 1; unparsed replies and errors are apart
    reply: str  # generated text, or the chosen choice; replies of several copies joined by newlines


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """Figures of one task, group of tasks or data set, as the tool that defines it scores it, and how it was asked."""

    task: str  # name of the task, group or data set
    metric: str  # the key of `scores` that tables show; "" where there is none
    scores: dict[str, Figure]  # metric -> figure; an accuracy is a fraction, anything else is in its own unit
    outcomes: dict[str, int]  # Outcome -> items, by `metric`
    metric_outcomes: dict[str, dict[str, int]] = field(default_factory=dict)  # metric -> Outcome -> items, of scores in 0 … 1; {} = older
    # "not run": a preset names it and it could not be run here; "failed": its tool could not score it, or not all of it
    state: TaskState = "scored"
    best: float | None = 1.0  # the highest value that `metric` can take; None = not known
    notes: tuple[str, ...] = ()  # what a reader must know, e.g. rows without an image that were asked as text
    warnings: tuple[str, ...] = ()  # what makes a figure doubtful, e.g. that it is not the tool's own and nothing explains why
    members: tuple[str, ...] | None = None  # the tasks of a group; None for a task
    chance: dict[str, float] = field(default_factory=dict)  # metric -> chance level (mean of 1 / number of choices), where it is known
    n_shot: int | None = None  # examples before each question; None = not recorded
    output_type: str = ""  # text: lm-eval's, e.g. "multiple_choice"; vqa: VLMEvalKit's TYPE, e.g. "MCQ"
    version: str = ""  # of the task, as its tool numbers it
    n_documents: int | None = None  # that the task has, before any limit
    n_without_image: int = 0  # vqa: rows of the table that have no image and are asked as text
    documents_sha256: str = ""  # what was asked: of the documents and gold answers (text), of the table (vqa)
    data_sha256: str = ""  # text: of the local files that the task was read from
    revision: str = ""  # text: commit of the Hub repository that its data are of
    judge: str = ""  # vqa, where the tool's files name it: VLMEvalKit's judge, or "exact_matching"
    dataset_class: str = ""  # vqa: VLMEvalKit's class that scores it


@dataclass(frozen=True, kw_only=True)
class SuiteResults:
    """`results.json` of a text or VQA run."""

    suite: Literal["text", "vqa"]  # which of the two
    complete: bool  # every item finished without an error of the machine, and no task failed
    outcomes: dict[str, int]  # over the tasks that are not groups
    tasks: tuple[TaskResult, ...]  # in the order asked
    advice: str = ""  # what to change, where most replies are truncated or unparsed
