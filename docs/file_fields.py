"""What the fields of those files mean that no record of the project declares; `make_formats.py` compares them with the files."""

from __future__ import annotations

from iit_bench.storage.format import BENCHMARK_FORMAT, EXPORT_FORMAT, RUN_FORMAT, TRAINING_FORMAT

SEAL = "sha256 of the other fields as canonical JSON"

MANIFEST_FIELDS = {
    "format": f"`{BENCHMARK_FORMAT}`",
    "version": "of the format",
    "name": "of the preset, or `custom`",
    "seed": "of sampling and shuffling",
    "arguments": "of `iit-bench build`, without the folder it wrote",
    "default_style": "style of asking where a run names none: cloze | options | letters",
    "tiers": "tier -> number of dialogues",
    "targets": "modality -> number of targets",
    "questions": "modality -> number of questions, targets and history questions together",
    "sources": "per source: modality, split, origin, revision, licence, sha256 of what was read, counts of usable and of used questions, "
    "counts left out by reason",
    "prefix_choices": "number of targets one of whose choices begins with another: groups that a cloze run leaves out",
    "gold_positions": "modality -> number of choices -> how many targets have their gold answer at position 0, 1, …; fixed_order apart",
    "history_use": "per modality: the cap on groups that one cluster may serve, the highest use, clusters above the cap, history "
    "clusters and questions, how many clusters serve 1, 2, … groups",
    "history_turns": "tier -> per history turn, how many distinct questions and clusters serve",
    "baselines": "per modality: what is reachable without understanding, as accuracy; specification, Building 6",
    "answer_counts": "how often each text is the gold answer in the data that baselines are fitted on",
    "versions": "of Python and packages that read or wrote the data",
    "files": "path in the folder -> sha256",
    "rows_sha256": "hash of the content: canonical rows and image bytes; independent of pyarrow",
    "seal": SEAL,
}
EXPORT_FIELDS = {
    "format": f"`{EXPORT_FORMAT}`",
    "version": "of the format",
    "to": "lm-eval | vlmeval",
    "style": "cloze | options | letters",
    "history": "gold, always",
    "benchmark": "name, seed and rows_sha256 of the benchmark",
    "tiers": "tier -> dialogues written",
    "left_out": "reason -> dialogues that the other tool cannot ask",
    "iit-bench": "version that wrote the folder",
    "files": "path in the folder -> sha256, of all but README.md and this one",
    "seal": SEAL,
}
RUN_EXPORT_FIELDS = {
    "format": f"`{EXPORT_FORMAT}`",
    "version": "of the format",
    "to": "inspect | every-eval-ever | hub | csv | latex | markdown",
    "runs": "folders, or other tools' files, that were exported",
    "files": "path in the folder -> sha256, of all but README.md and this one; version 1 has the names only",
    "not_said": "what the format cannot say, a sentence each",
    "unsealed": "names of runs with files, or answers in their log, that no checksum covers",
    "iit-bench": "version that wrote the folder",
    "seal": SEAL,
}
HEADERS = {
    "format": f"`{RUN_FORMAT}`, `{RUN_FORMAT}/results`, `{RUN_FORMAT}/suite` or `{RUN_FORMAT}/errors`",
    "version": "of the format",
    "seal": SEAL,
}
NEWER_THAN_THE_SHIPPED_MODELS = {
    "data",
    "files",
    "format",
    "merge",
    "method",
    "processes",
    "run",
    "seal",
    "version",
}  # fields that their training.json does not have yet
TRAINING_FIELDS = {
    "format": f"`{TRAINING_FORMAT}`",
    "version": "of the format",
    "recipe": "name of the recipe",
    "recipe_sha256": "of its text",
    "overrides": "values of --set",
    "command": "the command line that made the model",
    "seed": "of weights and data",
    "steps": "of the optimiser",
    "data": "of own data only, by source: hash, Hub commit, records, tokens, learned tokens, images, and what was refused, by reason",
    "method": "of a visual stage: the method's name and options; of lora and dora also `base`, what they are a difference to",
    "merge": "of a merge, in place of `optim`: alpha, and name and weights of the tuned model and of its base",
    "optim": "learning rate per group of weights, schedule, batch size and clipping, as the recipe has them",
    "final_loss": "of the last step",
    "seconds": "training and scoring",
    "threads": "of torch",
    "processes": "that trained together",
    "run": "device, number format, several processes and so on, as the recipe has them",
    "versions": "of Python and packages",
    "weights_sha256": "of model.safetensors",
    "scores": "split -> part -> accuracy and n, as scored during training (four-choice cloze)",
    "files": "file in the folder -> sha256: the model's, log.jsonl and, of own data, data_check.json",
    "seal": SEAL,
}
