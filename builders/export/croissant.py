"""Describes a benchmark folder in Croissant 1.0 (`croissant.json`) with the fields of its vocabulary for responsible AI (RAI).

What the RAI fields state comes from the manifest. What nobody examined is said to be so, never made up.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from iit_bench.storage.format import pretty_json
from iit_bench.types import Dialogue, Image, Question

_CROISSANT = "http://mlcommons.org/croissant"
_KINDS = {str: "sc:Text", int: "sc:Integer", float: "sc:Float", bool: "sc:Boolean", Image: "sc:ImageObject"}
# Terms of the vocabularies, as the specification's context has them.
_OF_CROISSANT = (
    "citeAs column conformsTo_ dataType_ data_ equivalentProperty examples_ extract field fileProperty fileObject fileSet format includes "
    "isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source subField "
    "transform"
)
_MEANINGS = {  # field -> what it holds; those of both records
    "questions": {
        "id": "unique in the benchmark",
        "modality": "T (text) or V (with images)",
        "source": "data set that the question is from",
        "subject": "category inside the source",
        "cluster": "what the question depends on and others may share: its image, passage or fact",
        "language": "BCP 47",
        "question": "text; a mark <image> is the place of an image; without marks the images precede the text",
        "images": "files as they were read",
        "choices": "two or more, distinct, in the order asked",
        "answer": "index of the gold answer in choices",
        "answer_text": "the gold answer",
        "fixed_order": "choices keep the source's order",
        "prefix_choices": "one choice begins with another, ignoring case",
    },
    "dialogues": {
        "id": "tier and target",
        "tier": "pattern of modalities, such as TTV",
        "visual_share": "V turns / turns",
        "group": "target that all dialogues of the group end with",
        "turns": "ids of questions, in order; the last is the target",
        "target": "id of the last question",
        "connectors": "transition before each turn, or empty",
    },
}


def croissant(manifest: Mapping[str, Any], dataset: str | None = None) -> str:
    """The content of croissant.json.

    Args:
        manifest: of the benchmark; names the tables' files, relative to croissant.json, with their sha256.
        dataset: the repository on the Hub that the folder goes to, OWNER/NAME.
    """
    sources = manifest["sources"]
    described: dict[str, Any] = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": [f"{_CROISSANT}/1.0", f"{_CROISSANT}/RAI/1.0"],
        "name": f"IIT-{manifest['name']}",
        "description": (
            "Interleaved image-text dialogues: every target question is asked after every history whose tier ends in its modality, so that "
            "differences between tiers are paired."
        ),
        "version": "1.0.0",
        "license": sorted({str(source["licence"]) or "unknown" for source in sources.values()}),
        "keywords": ["multimodal", "evaluation", "forgetting", "visual question answering", "iit-bench"],
        "url": f"https://huggingface.co/datasets/{dataset}" if dataset else "https://arxiv.org/abs/2406.03496",
        "citeAs": "Zhang et al., Wings: Learning Multimodal LLMs without Text-only Forgetting, NeurIPS 2024, arXiv 2406.03496",
        **responsible(manifest),
    }
    described["distribution"] = [_file(name, digest) for name, digest in manifest["files"].items()]
    described["recordSet"] = [_records(name, kind, manifest) for name, kind in (("questions", Question), ("dialogues", Dialogue))]
    return pretty_json(described)


def _context() -> dict[str, Any]:
    """The specification's context: short names of its terms."""
    typed: dict[str, Any] = {"conformsTo": "dct:conformsTo", "dataType": {"@id": "cr:dataType", "@type": "@vocab"}}
    typed |= {name: {"@id": f"cr:{name}", "@type": "@json"} for name in ("data", "examples")}
    plain = {name: f"cr:{name}" for name in _OF_CROISSANT.split() if not name.endswith("_")}
    spaces = {"cr": f"{_CROISSANT}/", "rai": f"{_CROISSANT}/RAI/", "dct": "http://purl.org/dc/terms/", "sc": "https://schema.org/"}
    return {"@language": "en", "@vocab": "https://schema.org/", **spaces, **plain, **typed}


def _file(name: str, digest: str) -> dict[str, Any]:
    made = {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name}
    return made | {"encodingFormat": "application/x-parquet", "sha256": digest}


def _records(name: str, kind: type, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A table. Its first file is its only one (`storage.benchmark.save_benchmark`)."""
    file = next(file for file in manifest["files"] if file.startswith(f"{name}/"))
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/id"},
        "field": list(_fields(name, kind, file)),
    }


def _fields(table: str, kind: type, file: str) -> Iterator[dict[str, Any]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, repeated = hints[field.name], False
        if typing.get_origin(hint) is tuple:
            hint, repeated = typing.get_args(hint)[0], True
        source: dict[str, Any] = {"fileObject": {"@id": file}, "extract": {"column": field.name}}
        if hint is Image:  # a cell is a list of {bytes, path}
            source["transform"] = {"jsonPath": "[*].bytes"}
        made: dict[str, Any] = {
            "@type": "cr:Field",
            "@id": f"{table}/{field.name}",
            "name": field.name,
            "description": _MEANINGS[table][field.name],
        }
        made |= {"dataType": _KINDS.get(hint, "sc:Text"), "source": source}
        yield made | ({"repeated": True} if repeated else {})


# ---------------------------------------------------------------- responsible AI


def responsible(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The RAI fields, by their names in croissant.json.

    mlcroissant keeps one value only of most fields: where there are several, they are one text. It does not know the specification's
    dataManipulationProtocol, so what would be there is part of the preprocessing.
    """
    sources, arguments = manifest["sources"], manifest["arguments"]
    raw, missing = [], []
    for name, source in sources.items():
        origin = " ".join(filter(None, (source["origin"], source["revision"])))
        raw.append(f"{name}: {origin}, split {source['split']}, licence {source['licence'] or 'unknown'}, sha256 {source['sha256']}")
        missing += [f"{name}: {count} left out: {reason}" for reason, count in source["left_out"].items()]
    return {
        "rai:dataCollection": (
            f"Multiple-choice questions of existing data sets: {', '.join(sources)}. Targets are sampled per modality, equally per source, "
            "then in proportion to subjects, from the evaluation split."
        ),
        "rai:dataCollectionType": "Secondary Data Analysis",
        "rai:dataCollectionRawData": "; ".join(raw),
        "rai:dataCollectionMissingData": "; ".join(missing) or "Nothing was left out.",
        "rai:dataImputationProtocol": "None: a record that lacks something is left out and counted.",
        "rai:dataPreprocessingProtocol": [
            f"Histories: the nearest questions by meaning (matcher {arguments['match']}), without near-duplicates of the target, without "
            "its image or cluster, and never with its gold answer in the text.",
            f"Choices: shuffled by a hash of seed {manifest['seed']} and question, gold positions balanced; some keep a fixed order.",
            f"Transitions between turns: {arguments['connector']}.",
        ],
        "rai:dataAnnotationProtocol": "No annotation of its own: gold answers are those of the sources.",
        "rai:dataBiases": list(_biases(manifest)),
        "rai:dataLimitations": [
            "Scores say how a model answers multiple-choice questions inside dialogues; they are no measure of open conversation.",
            "Sources are public: a model may have been trained on them.",
            "A question serves in several dialogues: intervals have to count that, as those of iit-bench do.",
        ],
        "rai:dataUseCases": "Evaluation: what a multimodal LLM forgets of its base LLM's text skills. Not for training.",
        "rai:personalSensitiveInformation": "Not examined by iit-bench; see the cards of the sources.",
        "rai:dataSocialImpact": "Not examined by iit-bench; see the cards of the sources.",
        "rai:dataReleaseMaintenancePlan": (
            f"The content is named by rows_sha256 {manifest['rows_sha256']}; the arguments in manifest.json build it again from the same "
            "sources."
        ),
    }


def _biases(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What is reachable without understanding, from the manifest's baselines."""
    for modality, name in (("T", "text"), ("V", "visual")):
        figures = manifest["baselines"].get(modality)
        if figures:
            known = {rule: value for rule, value in figures.items() if rule != "n" and value is not None}
            rules = ", ".join(f"{rule.replace('_', ' ')} {value:.3f}" for rule, value in known.items())
            yield f"Accuracy on {name} targets without understanding (n {figures['n']}): {rules}."
