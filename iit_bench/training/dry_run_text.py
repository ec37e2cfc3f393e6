"""The plan of a training as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from iit_bench.training.chats.checking import table
from iit_bench.training.dry_run import StagePlan


def text(plans: Sequence[StagePlan]) -> str:
    """All stages, one after the other."""
    return "\n\n".join("\n".join(_stage(plan)) for plan in plans)


def _stage(plan: StagePlan) -> Iterator[str]:
    yield f"{plan.recipe} -> {plan.out}"
    for part in plan.parts:
        frozen = "frozen" if plan.rows else "averaged" if part.name == "llm" else "as it is"
        yield f"  {part.name:<10} {part.parameters:>15,} parameters   {f'rate {part.rate:g}' if part.rate else frozen}"
    trained = sum(part.parameters for part in plan.parts if part.rate)
    yield f"  {'all':<10} {sum(part.parameters for part in plan.parts):>15,} parameters   {trained:,} trained"
    yield from _rows(plan)
    yield from _memory(plan)
    yield f"  reads      {', '.join(f'{key} {value}' for key, value in plan.reads.items()) or 'data only'}"
    yield f"  writes     {', '.join(f'{name} {_bytes(size)}' for name, size in plan.writes.items())}"
    if plan.data:
        yield from ("  " + line for line in table(plan.data).splitlines())
    for note in plan.notes:
        yield f"  note       {note}"


def _rows(plan: StagePlan) -> Iterator[str]:
    rows = plan.rows
    if rows is None:
        return
    if rows.unit == "images":
        yield f"  steps      {plan.steps:,} of {rows.per_step:,.0f} images, {plan.total:,} in all{_hours(plan)}"
        return
    about = "" if rows.measured else " (assumed)"
    yield f"  steps      {plan.steps:,} of {rows.per_step:,.0f} rows, {plan.total:,} tokens in all{about}{_hours(plan)}"
    yield (
        f"  rows       {rows.mean:,.0f} tokens each{about}, longest {rows.longest:,}, {rows.labelled:.0%} labelled; "
        f"{rows.passes} pass{'es' * (rows.passes > 1)} per step and process"
    )


def _hours(plan: StagePlan) -> str:
    if plan.hours is None or plan.rows is None:
        return ""
    return f", {_time(plan.hours * 3600)} at {plan.throughput:,.0f} {plan.rows.unit} per second"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.{0 if seconds >= 10 else 1}f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"


def _memory(plan: StagePlan) -> Iterator[str]:
    memory = plan.memory
    if memory is None:
        return
    how = f"{plan.processes} processes ({plan.parallel}), each" if plan.processes > 1 else "one process:"
    yield f"  memory     {how} {_bytes(memory.peak)} at peak in {plan.precision}, checkpointing {'on' if plan.checkpointing else 'off'}"
    parts = [(name, getattr(memory, name)) for name in ("weights", "gradients", "moments", "exchange", "copies", "activations", "logits")]
    yield f"             {', '.join(f'{name} {_bytes(size)}' for name, size in parts if size)}"
    other = plan.without_checkpointing if plan.checkpointing else plan.with_checkpointing
    if other is not None:
        yield f"             {_bytes(other)} with checkpointing {'off' if plan.checkpointing else 'on'}"


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
