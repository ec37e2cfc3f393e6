"""Folders that are changed after they were written are refused, or read as before (docs/reliability.md); nothing is accepted in silence.

Here one damage of 97; `make torture`, which sets TORTURE, tries each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability.damage import OUTCOMES, Trial, subjects, write
from tests.reliability.tally import Tally

EVERY = 1 if "TORTURE" in os.environ else 97


@pytest.mark.slow
def test_no_damage_is_accepted_in_silence(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    trial, tally = Trial(every=EVERY), Tally("damaged folders", record_property)
    for one in subjects(tmp_path):
        trial.subject(one)
    found = {outcome: sum(count for (*_, one), count in trial.counts.items() if one == outcome) for outcome in OUTCOMES}
    harmless, detected, silent, internal = (found[outcome] for outcome in OUTCOMES)
    tally.add(survived=harmless, detected=detected, silently_accepted=silent, internal_errors=internal)
    print(trial.table())
    if EVERY == 1:
        write(trial)
    assert (trial.unnoticed, trial.unverified) == ([], [])
    assert found["detected"] > 5 * found["harmless"] and sum(found.values()) > 10_000 // EVERY
