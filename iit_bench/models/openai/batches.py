"""A provider's batch API: requests are uploaded as a file, answered within a day at a lower price, and collected as a file.

Each request is paid once: a run that is killed at any point finds its batches again (`ledger`), and waits for them instead of sending their
requests a second time. Providers that speak this protocol: OpenAI, Azure, and others (POST /files, POST /batches, GET /batches/ID,
GET /files/ID/content).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any, Generic, TypeVar

from iit_bench import http
from iit_bench.errors import ItemError, UserError
from iit_bench.models.openai.client import MALFORMED, UNUSABLE, Client, RejectedError, message_of
from iit_bench.models.openai.ledger import Ledger, Sent

Answer = TypeVar("Answer")
Body = tuple[str, dict[str, Any]]  # path and body of a request

MOST_LINES, MOST_BYTES = 50_000, 100_000_000  # of one file; OpenAI takes twice the bytes, others do not
POLL_SECONDS = 20.0
TOO_MUCH_AT_ONCE = "token_limit_exceeded"  # code of a batch that failed since others of the account have to end first
WINDOW = "24h"  # the only one that OpenAI offers
ENDED = ("completed", "expired", "cancelled", "failed")
LISTED, MOST_PAGES = 100, 1000  # batches per page of the list, and its pages
MOST_CHARACTERS = 300  # of an id


@dataclass
class _File:
    keys: list[str] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)


class BatchJob(Generic[Answer]):
    """The requests of one call, by key."""

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        bodies: Mapping[str, Callable[[], Body]],
        read: Callable[[str, Any], Answer],
        settle: Callable[[Mapping[str, Answer]], None],
    ) -> None:
        """Nothing is sent yet.

        Args:
            client: of the provider.
            ledger: of the run folder.
            bodies: key → makes the request; it may raise ItemError.
            read: makes an answer of a key and the body of a reply; it raises one of MALFORMED where that has another shape.
            settle: is given answers as soon as they are collected, and keeps them.
        """
        self.client, self.ledger, self.bodies, self.read, self.settle = client, ledger, bodies, read, settle
        self.failed = {key: ledger.errors[key] for key in bodies if key in ledger.errors}
        self.missing = set(bodies) - set(self.failed)
        self.why = ""  # what the provider says of requests that it did not answer

    def run(self) -> dict[str, ItemError]:
        """Answer all requests; returns those that have no answer. Answers to requests of another job are not taken out of its batches.

        Requests that the provider leaves unanswered (it was too busy, or the day was over) are sent again, as long as others are answered.

        Raises:
            UserError: there is no batch API, a batch fails or was cancelled, or nothing is answered any more.
            UnavailableError: the provider is unavailable.
        """
        while self.missing:
            before = len(self.missing)
            waiting = [sent for sent in self.ledger.sent.values() if self.missing & set(sent.keys)]
            if away := [sent for sent in waiting if sent.url != self.client.url]:
                raise UserError(f"a batch of this run is at {away[0].url}; resume with that --base-url, or start over with --fresh")
            known = {key for sent in waiting for key in sent.keys}
            waiting += self._upload([key for key in self.bodies if key in self.missing and key not in known])
            for sent in waiting:
                if not sent.batch:
                    self.ledger.created(sent.file, self._find(sent) or self._create(sent))
            self._collect_all([sent.file for sent in waiting])
            if len(self.missing) == before:
                raise UserError(
                    f"the batch API of {self.client.url} leaves {before} requests unanswered ({self.why}); answers so far are kept, repeat "
                    "the command to send the rest again"
                )
        return self.failed

    # ------------------------------------------------------------ sending

    def _upload(self, keys: Sequence[str]) -> list[Sent]:
        files = []
        for path, chunk, data in self._files(keys):
            file = self._ask(lambda data=data: self.client.upload("/files", "requests.jsonl", data, _id))  # type: ignore[misc]
            self.ledger.uploaded(self.client.url, file, path, chunk)
            files.append(self.ledger.sent[file])
        return files

    def _files(self, keys: Sequence[str]) -> Iterator[tuple[str, list[str], bytes]]:
        """Path, keys and content of each file: all requests of a file go to one path."""
        open_files: dict[str, _File] = {}
        for key in keys:
            try:
                path, body = self.bodies[key]()
            except ItemError as error:
                self.failed[key] = error
                self.missing.discard(key)
                continue
            line = json.dumps({"custom_id": key, "method": "POST", "url": "/v1" + path, "body": body}).encode() + b"\n"
            file = open_files.setdefault(path, _File())
            if file.keys and (len(file.keys) == MOST_LINES or len(file.data) + len(line) > MOST_BYTES):
                yield path, file.keys, bytes(file.data)
                file = open_files[path] = _File()
            file.keys.append(key)
            file.data += line
        for path, file in open_files.items():
            yield path, file.keys, bytes(file.data)

    def _create(self, sent: Sent) -> str:
        """The id of a new batch. If the connection breaks, the list tells whether the provider made one, before another is asked for."""
        body = {"input_file_id": sent.file, "endpoint": "/v1" + sent.path, "completion_window": WINDOW}
        made: str = self._ask(lambda: self.client.post("/batches", body, _id, existing=lambda: self._find(sent)))
        return made

    def _find(self, sent: Sent) -> str | None:
        """The id of the batch that the provider has made of a file, if there is one."""
        after = ""
        for _ in range(MOST_PAGES):
            batches, more = self._ask(lambda after=after: self.client.read(f"/batches?limit={LISTED}{after}", _page))  # type: ignore[misc]
            if found := [name for name, file in batches if file == sent.file]:
                return str(found[0])
            if not batches or not more:
                return None
            after = f"&after={batches[-1][0]}"
        raise UserError(f"the batch API of {self.client.url} lists batches without end; leave out --batch-api")

    # ------------------------------------------------------------ collecting

    def _collect_all(self, files: list[str]) -> None:
        """Wait until all batches have ended, and collect each as it does."""
        while files:
            for file in list(files):
                batch = self._ask(lambda file=file: self.client.read(f"/batches/{self.ledger.sent[file].batch}", _batch))  # type: ignore[misc]
                if batch["status"] in ENDED:
                    files.remove(file)
                    self._collect(file, batch)
            if files:
                sleep(POLL_SECONDS)

    def _collect(self, file: str, batch: Mapping[str, Any]) -> None:
        answers: dict[str, Answer] = {}
        refused: dict[str, ItemError] = {}
        for name in ("output_file_id", "error_file_id"):
            if batch.get(name):
                for line in self._lines(str(batch[name])):
                    self._take(line, answers, refused)
        self.settle(answers)
        self.ledger.collected(file, batch["status"], refused)
        self.failed |= refused
        self.missing -= set(answers) | set(refused)
        errors = [message_of({"error": one}) for one in batch["errors"]]
        why = self.client.shown("; ".join(words for _, words in errors) or batch["status"])
        too_much_at_once = any(code == TOO_MUCH_AT_ONCE for code, _ in errors)
        if batch["status"] == "cancelled" or (batch["status"] == "failed" and not too_much_at_once):
            ended = "was cancelled" if batch["status"] == "cancelled" else f"failed ({why})"
            raise UserError(f"a batch at {self.client.url} {ended}; answers so far are kept, repeat the command to send the rest again")
        self.why = self.why or why

    def _lines(self, file: str) -> Iterator[Mapping[str, Any]]:
        content = self._ask(lambda: self.client.download(f"/files/{file}/content"))
        for line in content.splitlines():
            try:
                found = http.read_json(line or b"{}")
            except ValueError as error:
                self.why = f"a line of its answers is no JSON ({self.client.shown(str(error))})"
                continue
            if isinstance(found, dict):
                yield found

    def _take(self, line: Mapping[str, Any], answers: dict[str, Answer], refused: dict[str, ItemError]) -> None:
        """One line of an output or error file: an answer, a refusal, or nothing where the same request may be answered later."""
        key, response = line.get("custom_id"), line.get("response") or {}
        if not isinstance(key, str) or key not in self.missing or key in answers or key in refused:
            return
        try:
            status, body = int(response.get("status_code") or 0), response.get("body")
            if status == 200 and not line.get("error"):
                answers[key] = self.read(key, body)
                return
        except MALFORMED as error:
            reason = UNUSABLE if isinstance(error, http.UnusableError) else "the server fails on it"
            refused[key] = ItemError(reason, f"it answers what is not a completion ({self.client.shown(str(error))})")
            return
        code, words = message_of({"error": line["error"]} if line.get("error") else body)
        if status and not http.may_pass(status):
            reason = "context overflow" if code == "context_length_exceeded" else "refused by the server"
            refused[key] = ItemError(reason, f"HTTP {status}: {self.client.shown(words)}")
        else:
            self.why = self.client.shown(words or code) or f"HTTP {status}"

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except RejectedError as error:
            raise UserError(
                f"the batch API of {self.client.url} rejects requests ({error}); leave out --batch-api, or see what the provider asks for"
            ) from error


def _id(reply: Any) -> str:
    name = reply["id"]
    if not (isinstance(name, str) and name.isascii() and name.isprintable() and len(name) <= MOST_CHARACTERS):
        raise ValueError("an id is no short text in ASCII")
    return name


def _page(reply: Any) -> tuple[list[tuple[str, Any]], bool]:
    """The id and the file of each batch on a page of the list, and whether there are more pages."""
    return [(_id(batch), batch.get("input_file_id")) for batch in reply.get("data") or []], bool(reply.get("has_more"))


def _batch(reply: Any) -> Mapping[str, Any]:
    """A batch whose `status` is a text and whose `errors` are a list."""
    if not isinstance(reply["status"], str):
        raise TypeError("a batch has no status")
    return {**reply, "errors": list((reply.get("errors") or {}).get("data") or [])}


def answer_by_batches(
    client: Client,
    state: Path,
    bodies: Mapping[str, Callable[[], Body]],
    read: Callable[[str, Any], Answer],
    settle: Callable[[Mapping[str, Answer]], None],
) -> dict[str, ItemError]:
    """Answer requests by batches (arguments and errors as `BatchJob`); `state` is the file of the run's ledger."""
    with Ledger(state) as ledger:
        return BatchJob(client, ledger, bodies, read, settle).run()
