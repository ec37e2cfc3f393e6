"""`vlmeval:NAME`: a model of VLMEvalKit's zoo behind the model contract. It can only generate.

VLMEvalKit runs in a process of its own (worker.py): what importing it does to a process (TLS verification off, torch seeded,
gradients off, variables of the environment set) has no effect here.

Its models take one message of texts and images, not a chat: earlier turns are plain questions and answers in that message. How long a
reply may be is the zoo's own setting of each model.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from iit_bench.errors import ItemError, UserError
from iit_bench.images import decode_item, encode
from iit_bench.models.contract import (
    Capabilities,
    GenerateRequest,
    GenerateResult,
    Model,
    ModelInfo,
    ScoreRequest,
    ScoreResult,
)
from iit_bench.models.reasoning import split_reasoning
from iit_bench.models.vlmevalkit.encoding import one_message, vlmeval_message
from iit_bench.tools.worker_process import WorkerProcess
from iit_bench.types import Image


class ZooModel(Model):
    """One model in VLMEvalKit's process."""

    capabilities = Capabilities(
        scores=False,
        why_not={"scores": "VLMEvalKit's models only generate", "takes_raw_text": "VLMEvalKit's models take messages only"},
    )

    def __init__(self, name: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="iit-bench-vlmeval-")
        folder = Path(self._folder.name)
        self._worker = WorkerProcess(
            "iit_bench.models.vlmevalkit.worker",
            name.removeprefix("vlmeval:"),
            tool="VLMEvalKit",
            folder=folder,
            log=folder / "log",
            fix="repeat the command to resume",
        )
        weakref.finalize(self, _end, self._worker, self._folder)  # with the model, or with this process
        ready = self._worker.read()
        if "error" in ready:
            raise UserError(ready["error"])
        self._interleaves = bool(ready["interleave"])
        self.info = ModelInfo(
            name=name,
            checkpoint="",
            checkpoint_sha256="",
            chat_template_sha256="",
            accepts_images=True,
            blind=False,
            dtype="unknown",
            device="unknown",
            max_context=None,
            details={"class": ready["class"], "images": "anywhere" if self._interleaves else "one, before the text"},
        )

    # ------------------------------------------------------------ asking

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        return 1  # unknown

    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        raise UserError(f"model {self.info.name!r} cannot score replies: {self.capabilities.why_not['scores']}; use --scoring generate")

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        return [self._generate(request) for request in batch]

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        message = one_message(request.messages)
        images = sum(isinstance(part, Image) for part in message)
        if images > 1 and not self._interleaves:
            raise ItemError("several images", f"{images}; the model takes one, and VLMEvalKit would leave the others out in silence")
        answer = self._worker.ask(vlmeval_message(message, self._file))
        if "error" in answer:
            raise ItemError("VLMEvalKit's model failed", answer["error"])
        parts = split_reasoning(str(answer["text"]).strip())
        return GenerateResult(parts.reply.strip(), 0, 0, reasoning=parts.reasoning, unfinished_reasoning=parts.unfinished)

    def _file(self, image: Image) -> str:
        """Path of a file with the picture, kept for the next request with the same one."""
        path = Path(self._folder.name) / f"{image.sha256}.png"
        if not path.is_file():
            path.write_bytes(encode(decode_item(image)))
        return str(path)


def _end(worker: WorkerProcess, folder: tempfile.TemporaryDirectory[str]) -> None:
    worker.close(kill=True)
    folder.cleanup()
