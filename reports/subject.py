"""Whom a model's page is about: what its sections are made from."""

from __future__ import annotations

from dataclasses import dataclass

from iit_bench.storage.benchmark import Benchmark
from reports.entries import Entry, Group, base_of


@dataclass(frozen=True)
class Subject:
    """A model, and what surrounds it."""

    entry: Entry
    group: Group  # the runs that may share a table with it
    benchmark: Benchmark | None  # that was asked; None where its folder is not at hand
    no_samples: str = ""  # why the report has no explorer, in one sentence; "" where `links.item` leads into it

    @property
    def base(self) -> Entry | None:
        """Its base LLM's run, where the page has it."""
        return base_of(self.entry, self.group.entries)
