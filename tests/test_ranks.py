"""Which of several processes this is, from the variables that launchers set."""

from __future__ import annotations

import pytest

from iit_bench.errors import UserError
from iit_bench.ranks import Rank, this_rank

BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}  # a batch script, or a shell of salloc
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
ARRAY = {
    "SLURM_JOB_ID": "11",
    "SLURM_ARRAY_JOB_ID": "9",
    "SLURM_ARRAY_TASK_ID": "5",
    "SLURM_ARRAY_TASK_MIN": "2",
    "SLURM_ARRAY_TASK_COUNT": "8",
}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "abc"}


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, Rank()),
        (TORCHRUN, Rank(number=3, of=4, local=1, launch="torchrun abc")),
        (TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}, Rank(number=3, of=4, local=1)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Rank(number=1, of=2, local=1)),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, Rank()),
        ({"RANK": "3"}, Rank()),
        (BATCH, Rank()),
        (BATCH | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "4"}, Rank()),  # the step of an interactive shell
        (STEP | {"SLURM_PTY_PORT": "4711"}, Rank()),  # srun --pty bash
        (STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, Rank()),
        (STEP, Rank(number=3, of=4, local=1, launch="slurm 7.0")),
        (STEP | TORCHRUN, Rank(number=3, of=4, local=1, launch="torchrun abc")),  # torchrun, started on each machine by srun
        (ARRAY, Rank(number=3, of=8, launch="slurm 9")),
        (ARRAY | {"SLURM_ARRAY_TASK_COUNT": "1"}, Rank()),
        (ARRAY | {"SLURM_ARRAY_TASK_STEP": "3"}, Rank(number=1, of=8, launch="slurm 9")),
        (ARRAY | {"SLURM_ARRAY_TASK_ID": "99", "SLURM_ARRAY_TASK_COUNT": "2"}, Rank(number=1, of=2, launch="slurm 9")),  # --array=2,99
        (STEP | ARRAY | {"SLURM_ARRAY_TASK_COUNT": "4"}, Rank(number=15, of=16, local=1, launch="slurm 9")),
    ],
)
def test_rank_of_a_process(variables, rank):
    assert this_rank(variables) == rank


@pytest.mark.parametrize(
    ("variables", "said"),
    [({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x', which is no number"), ({"RANK": "2", "WORLD_SIZE": "2"}, "process 2 of 2")],
)
def test_variables_that_make_no_sense_are_refused(variables, said):
    with pytest.raises(UserError, match=said):
        this_rank(variables)
