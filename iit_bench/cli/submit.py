"""`iit-bench submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from iit_bench.cli.app import app, refuse_idle
from iit_bench.errors import UserError
from iit_bench.terminal import write

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


@app.command(context_settings=_PASS_ON)
def submit(
    context: typer.Context,
    processes: Annotated[int, typer.Option(help="Tasks of the array: processes that work on the run.", min=1)] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs of each task.", min=0)] = 1,
    cpus: Annotated[int, typer.Option(help="CPUs of each task.", min=1)] = 4,
    memory: Annotated[int | None, typer.Option(help="GB of each task; default: Slurm's.", min=1, show_default=False)] = None,
    minutes: Annotated[
        int, typer.Option(help="Time limit of each task; at the limit, and when preempted, it is queued again.", min=1)
    ] = 240,
    partition: Annotated[str | None, typer.Option(help="Partition of Slurm.", show_default=False)] = None,
    account: Annotated[str | None, typer.Option(help="Account of Slurm.", show_default=False)] = None,
    slurm: Annotated[
        str, typer.Option(help="Further options of sbatch, e.g. qos=low,constraint=h100; NAME=VALUE,NAME=VALUE or a JSON object.")
    ] = "",
    logs: Annotated[Path, typer.Option(help="Folder for the tasks' output.")] = Path("slurm"),
    cluster: Annotated[Literal["slurm", "local"], typer.Option(help="local: on this machine at once, to try it out.")] = "slurm",
) -> None:
    """Submit an evaluation as a Slurm array. What follows the options is the command line of `iit-bench eval`, without iit-bench.

    Each task is a process of the run; the last one writes the results. A preempted task is queued again, and goes on where it was.
    Needs submitit: pip install 'iit-bench[slurm]'.

    Example: iit-bench submit --processes 8 --partition gpu eval --model hf:tuned --bench bench --out runs/tuned
    """
    from evaluators.runs.named_values import parse_named_values
    from iit_bench.cli.eval import check_words
    from iit_bench.storage.atomic import check_writable
    from iit_bench.workflows.submitting import submit as submit_words

    if cluster == "local":
        refuse_idle(context, ("partition", "account", "slurm"), "with --cluster local")
    words = list(context.args)
    if words[:1] != ["eval"] or "--processes" in words:
        raise UserError(
            "write the evaluation behind the options, as in: iit-bench submit --processes 8 eval --model NAME --bench DIR --out DIR"
        )
    out = check_words(words[1:], processes).out
    if out.absolute().parent.is_dir():  # else it may be of a file system that only the tasks' machines have
        check_writable(out)
    parameters: dict[str, Any] = {"timeout_min": minutes, "gpus_per_node": gpus, "cpus_per_task": cpus}
    if memory:
        parameters["mem_gb"] = memory
    if cluster == "slurm":
        parameters |= {"slurm_array_parallelism": processes, "slurm_additional_parameters": parse_named_values(slurm, "--slurm")}
        parameters |= {f"slurm_{name}": value for name, value in {"partition": partition, "account": account}.items() if value}
    jobs = submit_words(words, processes, logs, cluster=cluster, parameters=parameters)
    write("\n".join(f"{job.job_id}: {job.paths.stderr}" for job in jobs))
