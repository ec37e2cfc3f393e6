"""From requests to batches: what identifies a request, and which requests run together."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from iit_bench.errors import UserError
from iit_bench.models.contract import (
    GenerateRequest,
    Model,
    ModelInfo,
    RollingRequest,
    ScoreRequest,
    TextGenerateRequest,
    TextRequest,
    TextScoreRequest,
    Way,
)
from iit_bench.server_options import SERVER
from iit_bench.shared_beginnings import cut_beginnings, worth_cutting
from iit_bench.storage.tables import canonical_json
from iit_bench.token_trees import PASS_OVERHEAD, TokenPath, common_length, cut_rows
from iit_bench.types import Image, Message

Request = ScoreRequest | GenerateRequest | TextRequest
# Raised when a model's answers to an equal request change: where a reply begins, what a picture looks like. Then a run that an earlier
# build began is asked anew instead of mixing both. Answers of before the number are 1.
ANSWERS_VERSION = 2
# Raised when equal requests are put into other rows or batches, since their scores then differ in the last digits.
PLAN_VERSION = 1
BATCH_TOKENS = {"cpu": 4096}  # padded tokens per batch; on other devices:
BATCH_TOKENS_ACCELERATOR = 32768
ROW_TOKENS = {"cpu": 1024}  # positions of a row of a tree; on other devices:
ROW_TOKENS_ACCELERATOR = 8192
LONGEST_PATHS = 3  # so many longest paths fit a row, however long they are,
LONGEST_ROW = 16384  # while it has no more positions than these: its mask has their square


@dataclass(frozen=True)
class BatchLimits:
    """How a run's requests are put together: decided once, by the process that begins the run; run.json keeps it as `engine`.

    A batch holds at most `rows` requests and, padded to its longest, `tokens` tokens; a longer request has a batch of its own. A row of a
    tree holds at most `rows` requests and `row_tokens` positions, or `LONGEST_PATHS` times the longest path if that is more (at most
    `LONGEST_ROW`). On a CPU the sizes are fixed, because the last digits of scores depend on them and an evaluation gives the same files on
    every machine; on accelerators they are found (growth.py).
    """

    rows: int
    tokens: int
    row_tokens: int = ROW_TOKENS["cpu"]
    way: Way = "plain"
    ways: Mapping[str, str] | None = None  # `Model.ways` of the process that began the run; None = not known, of runs of before the field

    @staticmethod
    def for_model(info: ModelInfo, batch_size: int | None, way: Way = "plain") -> BatchLimits:
        """`batch_size` None = auto: as many requests as fit the token budget of the device.

        Raises:
            UserError: the model is behind a server, which is asked request by request.
        """
        if batch_size and info.device == SERVER:
            raise UserError(f"model {info.name!r} is behind a server, which makes its own batches; give --concurrency, not --batch-size")
        tokens = BATCH_TOKENS.get(info.device, BATCH_TOKENS_ACCELERATOR)
        row_tokens = ROW_TOKENS.get(info.device, ROW_TOKENS_ACCELERATOR)
        if batch_size:
            return BatchLimits(batch_size, 2**62, row_tokens, way)
        return BatchLimits(256, tokens, row_tokens, way)

    @staticmethod
    def of_record(record: Mapping[str, Any], model: Model) -> BatchLimits:
        """The limits that a run.json keeps as `engine`.

        Raises:
            UserError: another version of this program made them, or the model does not run requests so here.
        """
        if record.get("version") != PLAN_VERSION:
            raise UserError(
                f"the run was begun with plan version {record.get('version')!r}, this is version {PLAN_VERSION}; "
                "add --fresh, or use the iit-bench that began it"
            )
        if record["way"] == "tree" and model.way != "tree":
            raise UserError(f"the run was begun with rows of a tree, which model {model.info.name!r} cannot be asked in here; add --fresh")
        ways = record.get("ways")
        if ways is not None and ways != model.ways:
            names = sorted(name for name in {*ways, *model.ways} if ways.get(name) != model.ways.get(name))
            other = "; ".join(f"{name}: {ways.get(name, '-')!r}, here {model.ways.get(name, '-')!r}" for name in names)
            raise UserError(
                f"the run was begun in other ways than the checks at load allow model {model.info.name!r} here ({other}), and last digits "
                "depend on them; go on where it was begun, or add --fresh"
            )
        return BatchLimits(record["rows"], record["batch_tokens"], record["row_tokens"], record["way"], ways)

    def record(self) -> dict[str, Any]:
        """For run.json's `engine`."""
        ways = {} if self.ways is None else {"ways": dict(self.ways)}
        sizes = {"rows": self.rows, "batch_tokens": self.tokens, "row_tokens": self.row_tokens}
        return {"way": self.way, **ways, **sizes, "version": PLAN_VERSION}


def model_identity(info: ModelInfo) -> dict[str, Any]:
    """The fields of a model's record that determine its answers, and the version of how this build asks it."""
    names = ("name", "checkpoint_sha256", "chat_template_sha256", "blind", "dtype")
    settings = {"settings": info.settings} if info.settings else {}
    return {name: getattr(info, name) for name in names} | settings | {"answers_version": ANSWERS_VERSION}


def request_key(request: Request, identity: Mapping[str, Any]) -> str:
    """sha256 of all that determines the answer: model, dtype, chat or text, images, and what is scored.

    Names of request classes and of their fields are part of it: to rename one invalidates every log.
    """
    if isinstance(request, (TextScoreRequest, RollingRequest, TextGenerateRequest)):
        whole = {"model": identity, "kind": type(request).__name__, **dataclasses.asdict(request)}
        return hashlib.sha256(canonical_json(whole).encode()).hexdigest()
    body: dict[str, Any] = {"model": identity, "messages": [_message(message) for message in request.messages]}
    if isinstance(request, ScoreRequest):
        body["continuations"] = request.continuations
    else:
        body["max_new_tokens"] = request.max_new_tokens
        body["reasoning_tokens"] = request.reasoning_tokens
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def chat_key(request: ScoreRequest) -> str:
    """sha256 of a request's messages."""
    return hashlib.sha256(canonical_json([_message(message) for message in request.messages]).encode()).hexdigest()


def batch_key(keys: Iterable[str]) -> str:
    """sha256 of a batch: its requests in their order."""
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def _message(message: Message) -> list[Any]:
    return [message.role, *({"image": part.sha256} if isinstance(part, Image) else part for part in message.parts)]


def plan_batches(
    lengths: Mapping[str, int],
    limits: BatchLimits,
    prompts: Mapping[str, array[int]] | None = None,
    chats: Mapping[str, str] = MappingProxyType({}),
) -> list[list[str]]:
    """Batches of request keys, longest first (out of memory shows at once), equal lengths together (little padding).

    With `prompts`, requests that begin alike come together, so that a batch reads what they share once, unless that costs more padding
    than it saves. The plan depends on the whole job only, not on what is answered already: a resumed run computes each batch with the same
    members.

    Args:
        lengths: tokens of each request's longest row.
        limits: of a batch.
        prompts: of all the requests, in symbols (`token_trees`).
        chats: names of chats: requests with equal ones come one after the other.
    """
    by_length = _cut(_chats_together(sorted(lengths, key=lambda key: (-lengths[key], key)), chats), lengths, limits)
    if not prompts:
        return by_length
    alike = _cut(order_alike(lengths, prompts), lengths, limits)
    costs = [sum(_positions([prompts[key] for key in batch]) for batch in batches) for batches in (by_length, alike)]
    return alike if costs[1] < costs[0] else by_length


def _chats_together(order: Sequence[str], chats: Mapping[str, str]) -> Sequence[str]:
    """The keys in their order, but all requests of a chat where its first one is."""
    if not chats:
        return order
    of_chat: dict[str, list[str]] = {}
    for key in order:
        of_chat.setdefault(chats.get(key, key), []).append(key)
    return [key for keys in of_chat.values() for key in keys]


def _cut(order: Sequence[str], lengths: Mapping[str, int], limits: BatchLimits) -> list[list[str]]:
    batches: list[list[str]] = []
    longest = 0
    for key in order:
        width = max(longest, lengths[key])
        if batches and len(batches[-1]) < limits.rows and width * (len(batches[-1]) + 1) <= limits.tokens:
            batches[-1].append(key)
            longest = width
        else:
            batches.append([key])
            longest = lengths[key]
    return batches


def _positions(prompts: Sequence[array[int]]) -> int:
    """Positions that a batch of these prompts takes, in which common beginnings are read once where that is worth it."""
    lengths = list(map(len, prompts))
    cuts = cut_beginnings(prompts)
    return PASS_OVERHEAD + (cuts.positions if cuts and worth_cutting(cuts, lengths) else len(prompts) * max(lengths))


def order_alike(lengths: Mapping[str, int], prompts: Mapping[str, array[int]]) -> list[str]:
    """The keys in an order in which prompts with long common beginnings are neighbours, else longest first.

    Prompts that share half of what follows the beginning of all form a group; groups are put in order by their longest member, and the
    members of each in the same way.
    """
    arrays = {key: np.frombuffer(prompts[key], dtype=np.int32).astype(np.int64) for key in lengths}
    keys = sorted(lengths, key=lambda key: ((arrays[key] + 2**31).astype(">u4").tobytes(), key))
    shared = [common_length(one, other) for one, other in itertools.pairwise(map(arrays.__getitem__, keys))]

    def ordered(first: int, last: int, depth: int) -> list[str]:
        """Of keys[first:last], whose prompts agree in `depth` symbols."""
        deeper = min(shared[first : last - 1], default=depth)
        far = (place for place in range(first + 1, last) if not near(place, deeper))
        bounds = [first, *far, last]
        if len(bounds) > 2:
            groups = [ordered(low, high, deeper) for low, high in itertools.pairwise(bounds)]
            groups.sort(key=lambda group: (-lengths[group[0]], group[0]))
            return [key for group in groups for key in group]
        return ordered(first, last, deeper) if deeper > depth else sorted(keys[first:last], key=lambda key: (-lengths[key], key))

    def near(place: int, depth: int) -> bool:
        left = min(len(arrays[keys[place - 1]]), len(arrays[keys[place]])) - depth
        return 2 * (shared[place - 1] - depth) >= left

    return ordered(0, len(keys), 0) if keys else []


def plan_rows(paths: Mapping[str, Sequence[TokenPath]], limits: BatchLimits) -> list[list[str]]:
    """Rows of a tree as lists of request keys; like `plan_batches`, a function of the whole job."""
    if not paths:
        return []
    keys = sorted(paths)
    longest = max(path.longest for own in paths.values() for path in own)
    positions = max(limits.row_tokens, longest, min(LONGEST_PATHS * longest, LONGEST_ROW))
    cut = cut_rows([paths[key] for key in keys], positions, limits.rows)
    return [[keys[i] for i in row] for row in cut.rows]
