"""Options of an observation: those by which `iit-bench eval` loads a model, and which dialogues are observed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluators.runs.options import ModelPart, RunOptions, option
from iit_bench.errors import UserError
from iit_bench.types import Style

WITHOUT = ("blind", "batch_size", "seed")  # options of a model that have no meaning here
BESIDE_RUN = ("tiers", "limit", "out", "device", "threads", "image_cache")  # what may be given beside a run


@dataclass(frozen=True, kw_only=True)
class ObservationPart:
    """Which dialogues are observed, and where the table goes."""

    bench: Path | None = field(default=None, metadata=option("Benchmark folder, made by `iit-bench build`; needed without RUN."))
    out: Path | None = field(default=None, metadata=option("File to write, or the run folder that gets attention.parquet; default: RUN."))
    tiers: tuple[str, ...] | None = field(
        default=None, metadata=option("Tiers to observe, comma-separated; default: all, or those of RUN. Only those with images count.")
    )
    limit: int | None = field(default=None, metadata=option("Observe N whole groups; default: all, or as many as RUN.", least=1))
    style: Style | None = field(default=None, metadata=option("How choices are shown; default: the benchmark's."))
    system_prompt: str = field(default="", metadata=option("First message of every chat."))
    date: str | None = field(default=None, metadata=option("Day that a chat template which asks for it is told; default: today, UTC."))
    name: str | None = field(default=None, metadata=option("Name in reports; default: the model's."))


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(ObservationPart, ModelPart):
    """All options of an observation, by keyword: `AttentionOptions(model="wings", bench=Path("bench"), out=Path("attention.parquet"))`.

    Raises:
        UserError: one that is needed is missing, or one is given that has no meaning here.
    """

    def __post_init__(self) -> None:
        if not self.model or self.bench is None or self.out is None:
            missing = [flag for flag, there in (("--model", self.model), ("--bench", self.bench), ("--out", self.out)) if not there]
            raise UserError(f"{', '.join(missing)} is missing; give it, or name the run to observe: iit-bench attention RUN")
        if self.blind:
            raise UserError("--blind removes the images, so no text is before or after one; leave it out")
        self.as_run()

    def as_run(self) -> RunOptions:
        """As options of a run of suite iit, which checks them and loads models by them."""
        assert self.out is not None
        return RunOptions(**{one.name: getattr(self, one.name) for one in dataclasses.fields(self)})


def options_of_run(run: Path, given: dict[str, Any]) -> AttentionOptions:
    """The options by which the model of a run is observed, asked as there; `given` are those of BESIDE_RUN that differ.

    Raises:
        UserError: no run of suite iit, or one with the model's own replies as history.
    """
    from evaluators.runs.header import load_options
    from iit_bench.storage.runs import load_run_header

    header = load_run_header(run)
    options = load_options(run, out=run)
    if options.suite != "iit":
        raise UserError(f"run {str(run)!r} is of suite {options.suite}, and attention is observed in dialogues of suite iit; name another")
    if options.history != "gold":
        raise UserError(f"run {str(run)!r} has the model's own replies as history, and attention is observed under gold history only")
    if header["model"].get("accepts_images") is False and not options.blind:
        raise UserError(f"run {str(run)!r} is of a model that takes no images, so no text is before or after one; name another run")
    names = {one.name for one in dataclasses.fields(AttentionOptions)} - set(WITHOUT)
    values = {name: getattr(options, name) for name in names} | {"style": header["style"], "name": header["name"], "out": run}
    values["threads"] = header["arguments"].get("threads")  # not as many as it had: no last bits depend on them here
    return AttentionOptions(**values | given, blind=options.blind)
