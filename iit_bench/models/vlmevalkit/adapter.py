"""`vlmeval:NAME`: any model of VLMEvalKit's zoo (`supported_VLM`), where its full package is installed. It can only generate.

VLMEvalKit runs in a process of its own (worker.py): what importing it does to a process (TLS verification off, torch seeded,
gradients off, variables of the environment set) reaches nobody here.

Its models take one message of texts and images, not a chat: earlier turns stand in the message as plain questions and answers. How long a
reply may be is the zoo's own setting of each model.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from iit_bench.errors import ItemError, UserError
from iit_bench.images import decode_item, encode
from iit_bench.models.contract import (
    Capabilities,
    GenerateRequest,
    GenerateResult,
    Model,
    ModelInfo,
    ModelOptions,
    ScoreRequest,
    ScoreResult,
)
from iit_bench.tools.worker_process import WorkerProcess
from iit_bench.types import Image, Message

WHOLE = "pip install ms-vlmeval"


def load(name: str, options: ModelOptions) -> Model:
    """A model of the zoo; `name` is `vlmeval:NAME`.

    Raises:
        UserError: VLMEvalKit is not whole, has no model of this name, or cannot load it.
    """
    if find_spec("vlmeval") is None:
        raise UserError(f"model {name!r} needs the whole of VLMEvalKit, which is not installed: {WHOLE}")
    plain = ModelOptions()
    for option in ("checkpoint", "device", "dtype", "trust_remote_code"):
        if getattr(options, option) != getattr(plain, option):
            raise UserError(f"VLMEvalKit decides itself how {name!r} is loaded; leave out --{option.replace('_', '-')}")
    return ZooModel(name)


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
        lines = [
            {"type": "image", "value": self._file(part)} if isinstance(part, Image) else {"type": "text", "value": part} for part in message
        ]
        answer = self._worker.ask(lines)
        if "error" in answer:
            raise ItemError("VLMEvalKit's model failed", answer["error"])
        return GenerateResult(str(answer["text"]).strip(), 0, 0)

    def _file(self, image: Image) -> str:
        """Path of a file with the picture, kept for the next request with the same one."""
        path = Path(self._folder.name) / f"{image.sha256}.png"
        if not path.is_file():
            path.write_bytes(encode(decode_item(image)))
        return str(path)


def _end(worker: WorkerProcess, folder: tempfile.TemporaryDirectory[str]) -> None:
    worker.close(kill=True)
    folder.cleanup()


def one_message(messages: Sequence[Message]) -> list[str | Image]:
    """A chat as one message: a lone question as it is, earlier turns before it in the plain form that base LLMs are asked in."""
    system = [message.text + "\n\n" for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if len(turns) == 1:
        return _merged([*system, *turns[0].parts])
    parts: list[str | Image] = list(system)
    for turn in turns:
        parts += ["Question: ", *turn.parts, "\nAnswer:"] if turn.role == "user" else [f" {turn.text}\n\n"]
    return _merged(parts)


def _merged(parts: Sequence[str | Image]) -> list[str | Image]:
    found: list[str | Image] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return [part for part in found if part != ""]
