"""Builds a benchmark folder from sources (docs/spec/iit.md#building)."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builders.baselines import Baselines
from builders.card import card
from builders.choices import admit, flagged, ordered
from builders.connectors import make_connect
from builders.dialogues import Connect, Dialogues
from builders.histories import Groups, HistoryBuilder, use_cap
from builders.matching import make_matcher
from builders.presets import Preset, load_preset
from builders.sources.answers import parse_answers
from builders.sources.base import AnswerCounts, SourceOptions, SourceQuestions, is_table, load_source
from builders.sources.columns import parse_columns
from builders.sources.language import is_code
from builders.targets import sample_targets
from builders.tiers import parse_tiers
from builders.words import hashed
from iit_bench.errors import UserError
from iit_bench.numerals import counted
from iit_bench.progress import display
from iit_bench.storage.benchmark import save_benchmark
from iit_bench.storage.format import BENCHMARK_FORMAT
from iit_bench.storage.whole_folders import reserved
from iit_bench.terminal import label
from iit_bench.types import Modality, Question, tier_order
from iit_bench.version import __version__

if TYPE_CHECKING:
    from rich.progress import Progress


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Options of `iit-bench build`; each field is an option of the same name."""

    out: Path
    preset: str = "lab2"
    text: tuple[str, ...] | None = None  # sources of T questions; None = the preset's
    visual: tuple[str, ...] | None = None  # sources of V questions; None = the preset's
    tiers: str = "full"  # full | paper | patterns separated by commas
    size: int | None = None  # targets per modality; None = the preset's
    seed: int = 0
    match: str = "tfidf"  # tfidf | none | path or Hub id of a text encoder
    connector: str = "none"  # none | template | openai
    data_root: Path | None = None  # local snapshots instead of the Hub
    include_path: Path | None = None  # folder with tasks in lm-eval's format, for lm-eval:TASK
    columns: tuple[str, ...] = ()  # of tables: [SOURCE:]FIELD=COLUMN,…
    answers: tuple[str, ...] = ()  # of tables: [SOURCE:]READING; () = auto
    language: str = "en"  # of rows in Latin script that state none
    overwrite: bool = False  # replace an existing benchmark in `out`


@dataclass(frozen=True, kw_only=True)
class _LoadedSource:
    """A source with its usable questions, choices in source order."""

    source: SourceQuestions
    modality: Modality
    questions: tuple[Question, ...]
    left_out: Mapping[str, int]


def build(options: BuildOptions) -> Path:
    """Build a benchmark folder and return its path. Progress goes to stderr; `summary` describes what was built.

    Raises:
        UserError: unknown preset, source, tier or connector; too few questions; `out` cannot be written or holds something else, or another
            process is writing it.
    """
    preset = load_preset(options.preset)
    tiers = parse_tiers(options.tiers)
    size = preset.size if options.size is None else options.size
    if size < 1:
        raise UserError(f"--size {size} is not possible; use at least 1 target per modality")
    if not is_code(options.language):
        raise UserError(f"--language {options.language!r} is no code of BCP 47; use e.g. en, zh or pt-BR")
    connect = make_connect(options.connector, options.seed)
    with reserved(options.out, BENCHMARK_FORMAT, options.overwrite):
        return _build(options, preset, tiers, size, connect)


def _build(options: BuildOptions, preset: Preset, tiers: tuple[str, ...], size: int, connect: Connect | None) -> Path:
    text = preset.text if options.text is None else options.text
    visual = preset.visual if options.visual is None else options.visual
    names = {"T": text if _occurs("T", tiers) else (), "V": visual if _occurs("V", tiers) else ()}
    with display(transient=True) as progress:
        loaded = _load_sources(names, options, progress)
        targets = _targets(loaded, tiers, size, options.seed)
        groups, uses, cap = _groups(targets, loaded, tiers, options, progress)
    dialogues = Dialogues(groups, tiers, connect)
    history = {turn.id: turn for group in groups for turn in group.nodes}
    history_only = [history[question_id] for question_id in sorted(history.keys() - {target.id for target in targets})]
    dealt = ordered(targets, options.seed)
    questions = dealt.sorted_with(ordered(history_only, options.seed), key=lambda question: (question.modality, question.id))
    manifest = {
        "name": preset.name if options.text is None and options.visual is None else "custom",
        "seed": options.seed,
        "arguments": _arguments(options, size),
        "default_style": preset.style,
        "tiers": dialogues.of_tiers(),
        "targets": dict(Counter(target.modality for target in targets)),
        "questions": dict(Counter(question.modality for question in questions.questions)),
        "sources": {entry.source.name: _source_manifest(entry, targets, questions.questions) for entry in loaded},
        "prefix_choices": sum(target.prefix_choices for target in targets),
        "gold_positions": _gold_positions(dealt),
        "history_use": _history_use(uses, cap, history.values()),
        "history_turns": _history_turns(dialogues),
        **_baselines(loaded, dealt, questions.questions),
        "versions": _versions(),
    }
    readme = card(manifest, questions, dialogues)
    return save_benchmark(options.out, questions, dialogues, manifest, readme, overwrite=options.overwrite)


def summary(manifest: Mapping[str, Any]) -> str:
    """A few lines about a manifest, for the end of a build: sizes, and the records left out by reason."""
    targets = manifest["targets"]
    lines = [
        f"{manifest['name']}: {counted(sum(manifest['tiers'].values()), 'dialogue')} in {counted(len(manifest['tiers']), 'tier')}, "
        f"{targets.get('T', 0):,} text and {counted(targets.get('V', 0), 'visual target')}, seed {manifest['seed']}"
    ]
    for name, entry in manifest["sources"].items():
        left_out = ", ".join(f"{count} {reason}" for reason, count in entry["left_out"].items()) or "none"
        lines.append(
            f"  {name}: {entry['usable']} usable, {counted(entry['targets'], 'target')}, {entry['in_benchmark']} in the benchmark; "
            f"left out: {left_out}"
        )
    if manifest["prefix_choices"]:
        have = counted(manifest["prefix_choices"], "target has", "targets have")
        lines.append(f"  {have} a choice that begins another; cloze runs leave their groups out")
    return "\n".join(lines)


# ---------------------------------------------------------------- steps


def _occurs(modality: str, tiers: Sequence[str]) -> bool:
    return any(modality in tier for tier in tiers)


def _load_sources(names_by_modality: Mapping[str, Sequence[str]], options: BuildOptions, progress: Progress) -> list[_LoadedSource]:
    """Read the sources and keep their usable questions."""
    for modality, flag in (("T", "--text"), ("V", "--visual")):
        if not names_by_modality[modality] and _occurs(modality, parse_tiers(options.tiers)):
            raise UserError(f"the tiers need {modality} questions, but {flag} names no source; name one or choose other --tiers")
    names = [(name, modality) for modality, group in names_by_modality.items() for name in dict.fromkeys(group)]
    if repeated := [name for name, n in Counter(name for name, _ in names).items() if n > 1]:
        raise UserError(f"source {repeated[0]!r} is named both under --text and --visual; name it once")
    _check_table_options(options, [name for name, _ in names])
    source_options = SourceOptions(
        data_root=options.data_root,
        include_path=options.include_path,
        columns=options.columns,
        answers=options.answers,
        language=options.language,
    )
    task = progress.add_task("reading sources", total=len(names))
    loaded = []
    for name, modality in names:
        progress.update(task, description=f"reading {label(name)}")
        source = load_source(name, source_options)
        loaded.append(_usable(source, "T" if modality == "T" else "V"))
        progress.advance(task)
    ids = Counter(question.id for entry in loaded for question in entry.questions)
    if repeated := sorted(question_id for question_id, n in ids.items() if n > 1):
        raise UserError(f"two sources give a question with the id {repeated[0]!r}; name only one of them")
    return loaded


def _check_table_options(options: BuildOptions, names: Sequence[str]) -> None:
    """Refuse options that do nothing or are misspelt, before anything is read."""
    tables = [name for name in names if is_table(name)]
    for flag, given, fix in (
        ("--columns", options.columns and not tables, "a file or hub:ORG/NAME"),
        ("--answers", options.answers and not tables, "a file or hub:ORG/NAME"),
        ("--include-path", options.include_path and not any(name.startswith("lm-eval:") for name in names), "lm-eval:TASK"),
    ):
        if given:
            raise UserError(f"{flag} is given, but no source is {fix} ({', '.join(names)}); name one, or leave it out")
    parse_columns(options.columns, tables)
    parse_answers(options.answers, tables)


def _usable(source: SourceQuestions, modality: Modality) -> _LoadedSource:
    kept, left_out = admit(source.questions)
    fitting = [question for question in kept if question.modality == modality]
    if not fitting:
        kind, flag = ("text", "--visual") if modality == "T" else ("visual", "--text")
        why = ", ".join(f"{n} {reason}" for reason, n in sorted((left_out + Counter(source.left_out)).items()))
        hint = f"; name it under {flag}" if kept else f"; left out: {why}" if why else ""
        raise UserError(f"source {source.name!r} gave no usable {kind} question (of {len(source.questions)} read){hint}")
    left_out += Counter(source.left_out)
    left_out["has an image" if modality == "T" else "has no image"] += len(kept) - len(fitting)
    reasons = {reason: n for reason, n in sorted(left_out.items()) if n}
    questions = tuple(map(flagged, fitting))
    return _LoadedSource(source=source, modality=modality, questions=questions, left_out=reasons)


def _targets(loaded: Sequence[_LoadedSource], tiers: Sequence[str], size: int, seed: int) -> list[Question]:
    """Targets with the modalities in turn, in random order within each, so that the first N groups are a fair sample."""
    sampled: dict[str, list[Question]] = {"T": [], "V": []}
    for modality, kind in (("T", "text"), ("V", "visual")):
        if any(tier.endswith(modality) for tier in tiers):
            pools = {entry.source.name: entry.questions for entry in loaded if entry.modality == modality}
            targets = sample_targets(pools, size, seed, kind)
            sampled[modality] = sorted(targets, key=lambda question: hashed("order", seed, question.id))
    ranked = [(i, question.modality, question) for group in sampled.values() for i, question in enumerate(group)]
    return [question for _, _, question in sorted(ranked, key=lambda row: row[:2])]


def _groups(
    targets: Sequence[Question], loaded: Sequence[_LoadedSource], tiers: Sequence[str], options: BuildOptions, progress: Progress
) -> tuple[Groups, dict[Modality, list[int]], dict[Modality, int]]:
    """The groups, in how many of them each cluster is history, and the cap on that, for each modality."""
    pool = [question for entry in loaded for question in entry.questions]
    texts = {text: i for i, text in enumerate(sorted({question.question for question in pool}))}
    matcher = make_matcher(options.match, list(texts))
    cap = use_cap(targets, pool, tiers)
    histories = HistoryBuilder(pool, matcher, texts, seed=options.seed, cap=cap)
    groups = Groups(progress.track(histories.groups(targets, tiers), len(targets), description="matching histories"), pool)
    uses = histories.uses()
    del histories, matcher, texts
    _return_freed_memory()
    return groups, uses, cap


def _return_freed_memory() -> None:
    """Return to the system what the C library keeps of freed memory, which Arrow, with a pool of its own, would not use. Only glibc can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


# ---------------------------------------------------------------- the manifest


def _arguments(options: BuildOptions, size: int) -> dict[str, Any]:
    values = dataclasses.asdict(options) | {"size": size}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items() if name not in ("out", "overwrite")}


def otherwise(options: BuildOptions, manifest: Mapping[str, Any]) -> str:
    """With what a benchmark was built otherwise than these options build one: the first argument, in words; "" where with none.

    Arguments that an older manifest lacks are not compared.
    """
    size = load_preset(options.preset).size if options.size is None else options.size
    built, wanted = manifest["arguments"], json.loads(json.dumps(_arguments(options, size)))
    other = [name for name in wanted if name in built and built[name] != wanted[name]]
    return f"{other[0]} {built[other[0]]!r}, not {wanted[other[0]]!r}" if other else ""


def _source_manifest(loaded: _LoadedSource, targets: Iterable[Question], questions: Iterable[Question]) -> dict[str, Any]:
    name = loaded.source.name
    own_targets = [target for target in targets if target.source == name]
    return {
        "modality": loaded.modality,
        "split": loaded.source.split,
        "origin": loaded.source.origin,
        "revision": loaded.source.revision,
        "licence": loaded.source.licence,
        "sha256": loaded.source.sha256,
        "usable": len(loaded.questions),
        "targets": len(own_targets),
        "targets_by_subject": dict(sorted(Counter(target.subject for target in own_targets).items())),
        "in_benchmark": sum(question.source == name for question in questions),
        "answer_counts_from": "train split" if loaded.source.train_answers else "evaluation questions outside the benchmark",
        "left_out": dict(loaded.left_out),
        **({"answers": loaded.source.answers} if loaded.source.answers else {}),
    }


def _gold_positions(targets: Iterable[Question]) -> dict[str, dict[str, list[int]]]:
    """Modality -> number of choices -> count of gold answers at each position, over targets whose order is not fixed."""
    counts: dict[str, dict[int, list[int]]] = defaultdict(dict)
    for target in targets:
        if not target.fixed_order:
            counts[target.modality].setdefault(len(target.choices), [0] * len(target.choices))[target.answer] += 1
    return {modality: {str(k): counts[modality][k] for k in sorted(counts[modality])} for modality in sorted(counts)}


def _history_use(uses: Mapping[Modality, Sequence[int]], cap: Mapping[Modality, int], history: Iterable[Question]) -> dict[str, Any]:
    """Per modality: the cap on groups per cluster, what it rose to, and how many clusters serve 1, 2, … groups."""
    questions = Counter(question.modality for question in history)
    entries: dict[str, Any] = {}
    for modality in sorted(questions):
        groups = Counter(uses[modality])
        entries[modality] = {
            "cap": cap[modality],
            "highest": max(groups),
            "clusters_above_cap": sum(count for n, count in groups.items() if n > cap[modality]),
            "clusters": groups.total(),
            "questions": questions[modality],
            "groups_served": {str(n): groups[n] for n in sorted(groups)},
        }
    return entries


def _history_turns(dialogues: Dialogues) -> dict[str, list[dict[str, int]]]:
    """Tier -> for each history turn, how many distinct questions and clusters serve there."""
    served = {tier: [_distinct(turn) for turn in turns] for tier, turns in dialogues.history()}
    return {tier: served[tier] for tier in sorted(served, key=tier_order)}


def _distinct(questions: Iterable[Question]) -> dict[str, int]:
    cluster_of = {question.id: question.cluster for question in questions}
    return {"questions": len(cluster_of), "clusters": len(set(cluster_of.values()))}


def _baselines(loaded: Sequence[_LoadedSource], targets: Sequence[Question], questions: Sequence[Question]) -> dict[str, Any]:
    """Manifest entries `baselines` and `answer_counts`."""
    used_ids = {question.id for question in questions}
    unused = {entry.source.name: [question for question in entry.questions if question.id not in used_ids] for entry in loaded}
    train = {
        entry.source.name: entry.source.train_answers
        or AnswerCounts.of((question.question, question.answer_text) for question in unused[entry.source.name])
        for entry in loaded
    }
    baselines = Baselines(train, unused)
    slices: dict[str, list[Question]] = defaultdict(list)
    for target in targets:
        for key in (target.modality, target.source, f"{target.source}/{target.subject}"):
            slices[key].append(target)
    figures = {key: baselines.figures(slices[key]) for key in sorted(slices, key=lambda key: (key not in ("T", "V"), key))}
    return {"baselines": figures, "answer_counts": baselines.answer_counts(questions)}


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version

    versions = {"python": python_version(), "iit-bench": __version__}
    for package in ("numpy", "scipy", "pyarrow", "pillow", "datasets", "lm-eval", "ms-vlmeval", "easy-vqa", "transformers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
