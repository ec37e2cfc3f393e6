"""Checkpoints whose files are not what they claim: refused in one sentence before anything of them is loaded.

The templates and sizes here are harmless: limits are set low where one is to be reached.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from builders.matching import Encoder
from iit_bench.errors import QUOTED, ItemError, UserError
from iit_bench.models import template_check
from iit_bench.models.checkpoint_check import check_folder
from iit_bench.models.checkpoint_files import resolve_checkpoint
from iit_bench.models.contract import UNUSED_WEIGHTS, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.models.rendering import render_prompt
from iit_bench.models.template_check import check_template
from iit_bench.training import assets, start
from iit_bench.training.recipe import load_recipe
from iit_bench.training.rivals import method_of
from tests.conftest import tiny_tokenizer
from tests.edited_checkpoints import edit, open_model


@pytest.fixture(autouse=True)
def no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.load fails the test, whoever calls it."""
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))


@pytest.fixture
def checkpoint(save_tiny: Callable[..., Path]) -> Path:
    return save_tiny("llama")


# ---------------------------------------------------------------- which files are read


def name_shards(folder: Path, other: str) -> None:
    """Give a folder an index that names its weights and another file."""
    weights = {"model.norm.weight": "model.safetensors", "lm_head.weight": other}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))


LOADERS: dict[str, Callable[[Path], Any]] = {
    "hf": open_model,
    "by name": lambda folder: resolve_checkpoint(str(folder)),
    "the stage of a recipe": lambda folder: start.load(assets.find(str(folder), "inputs.model")),
    "the decoder of a recipe": lambda folder: assets.locate(str(folder), "inputs.llm"),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("other", ["pytorch_model.bin", "../elsewhere.safetensors"])
def test_an_index_names_safetensors_of_its_own_folder_only(loader: str, other: str, checkpoint: Path) -> None:
    (checkpoint / "pytorch_model.bin").write_bytes(b"not opened")
    name_shards(checkpoint, other)
    (checkpoint / "model.safetensors").rename(checkpoint / "model-1.safetensors")  # transformers prefers the single file
    with pytest.raises(UserError, match=r"names '.*', and only safetensors beside it are read; convert it"):
        LOADERS[loader](checkpoint)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": []}', "{"])
def test_an_index_that_is_none_is_refused(content: str, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=r"model\.safetensors\.index\.json"):
        resolve_checkpoint(str(checkpoint))


def test_a_recipe_reads_no_pickle_where_there_are_no_safetensors(checkpoint: Path) -> None:
    """transformers falls back to pytorch_model.bin."""
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has no safetensors, and no other weights are read"):
        start.load(assets.find(str(checkpoint), "inputs.model"))


def test_weights_of_whole_numbers_are_refused_unless_a_quantization_explains_them(checkpoint: Path) -> None:
    """transformers 5.23 casts int8 tensors to the dtype of the model, so a checkpoint whose fractions were cut off was asked."""
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("down_proj.weight"))
    save_file(tensors | {name: tensors[name].to(torch.int8), "positions": torch.arange(4)}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"1 weights, '{name}' \(I8\) first, are whole numbers, .*no quantization"):
        open_model(checkpoint)
    edit(checkpoint / "config.json", quantization_config={"quant_method": "int8"})
    check_folder(checkpoint, "it")


def test_complex_weights_are_refused(checkpoint: Path) -> None:
    """transformers 5.23 drops their imaginary parts."""
    file = checkpoint / "model.safetensors"
    save_file({name: one.to(torch.complex64) for name, one in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"weights, '.*' \(C64\) first, are complex numbers; get weights and config\.json from one source"):
        open_model(checkpoint)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_in_place_of_weights_is_not_waited_for(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "other.safetensors")
    os.mkfifo(checkpoint / "model.safetensors")
    with pytest.raises(UserError, match=r"'model\.safetensors' is a pipe, socket or device, which is not read"):
        check_folder(checkpoint, "it")


@pytest.mark.parametrize("field", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["nobody/none", {"": "paged|nobody/none@v0:a"}])
def test_code_of_another_repository_in_place_of_an_attention_is_refused(field: str, value: Any, checkpoint: Path) -> None:
    """Where the package kernels is installed, transformers 5.23 downloads and runs it, trusted or not."""
    for fields in ({field: value}, {"text_config": {field: value}}):
        edit(checkpoint / "config.json", **fields)
        with pytest.raises(UserError, match=rf"has {field} .*nobody/none.*, which is code of another repository; take the field out"):
            resolve_checkpoint(str(checkpoint))
        edit(checkpoint / "config.json", **dict.fromkeys(fields))


# ---------------------------------------------------------------- config.json

WRONG: dict[str, dict[str, Any]] = {
    "type": {"attention_bias": "x"},
    "dtype": {"dtype": "x"},
    "name of a function": {"hidden_act": "x"},
    "division by zero": {"num_attention_heads": 0},
    "power of zero": {"head_dim": 0},
    "negative": {"num_hidden_layers": -1},
    "part": {"rope_parameters": {"rope_theta": "x", "rope_type": "default"}},
    "no such kind": {"rope_parameters": {"rope_theta": 1e4, "rope_type": "x"}},
    "token beyond the vocabulary": {"pad_token_id": 10**9},
    "empty vocabulary": {"vocab_size": 0},
    "model type": {"model_type": {}},
    "layers": {"num_hidden_layers": 10**6},
    "width": {"hidden_size": 10**9},
    "vocabulary": {"vocab_size": 10**9},
    "labels": {"num_labels": 10**9},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_configuration_of_wrong_types_signs_or_sizes_is_one_sentence(case: str, checkpoint: Path) -> None:
    edit(checkpoint / "config.json", **WRONG[case])
    with pytest.raises(UserError) as error:
        open_model(checkpoint)
    assert "\n" not in str(error.value) and str(checkpoint) in str(error.value)


@pytest.mark.parametrize("fields", [{"eos_token": -1}, {"extra_special_tokens": "x"}, {"model_max_length": "x"}, {"tokenizer_class": {}}])
def test_a_tokenizer_of_wrong_types_is_one_sentence(fields: dict[str, Any], checkpoint: Path) -> None:
    edit(checkpoint / "tokenizer_config.json", **fields)
    with pytest.raises(UserError, match="the tokenizer of"):
        open_model(checkpoint)


# ---------------------------------------------------------------- weights without a place


def add_weights(folder: Path, **weights: torch.Tensor) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(folder / "model.safetensors") | weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["text", "image-text"])
def test_a_configuration_that_leaves_out_layers_of_the_decoder_is_refused(
    kind: str, checkpoint: Path, tiny_llava: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint if kind == "text" else tiny_llava, tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    decoder = config.get("text_config", config)
    layers = decoder["num_hidden_layers"]
    decoder["num_hidden_layers"] = layers - 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"has weights of a layer {layers}, '.*layers\.{layers - 1}\..*names {layers - 1} "):
        open_model(folder)


def test_a_configuration_that_leaves_out_layers_of_a_tower_is_refused(tiny_llava: Path, tmp_path: Path) -> None:
    """transformers leaves them out with a report; "the last but one" is another layer then, unless layers are numbered from the first."""
    folder = shutil.copytree(tiny_llava, tmp_path / "checkpoint")
    tower = json.loads((folder / "config.json").read_text())["vision_config"]
    edit(folder / "config.json", vision_config=tower | {"num_hidden_layers": 1}, vision_feature_layer=-1)
    with pytest.raises(UserError, match=r"has weights of a layer 2, '.*vision_tower.*layers\.1\..*names 1 layer; get both from one source"):
        open_model(folder)
    edit(folder / "config.json", vision_feature_layer=1)
    cut = open_model(folder)
    assert cut.info.details[UNUSED_WEIGHTS]["count"] == 16
    edit(folder / "config.json", vision_config=tower)
    assert UNUSED_WEIGHTS not in open_model(folder).info.details


def test_layers_that_guess_further_tokens_are_no_part_of_the_decoder(checkpoint: Path) -> None:
    layers = json.loads((checkpoint / "config.json").read_text())["num_hidden_layers"]
    edit(checkpoint / "config.json", num_nextn_predict_layers=1)
    add_weights(checkpoint, **{f"model.layers.{layers}.shared_head.weight": torch.zeros(2)})
    assert UNUSED_WEIGHTS not in open_model(checkpoint).info.details
    add_weights(checkpoint, **{f"model.layers.{layers + 1}.shared_head.weight": torch.zeros(2)})
    with pytest.raises(UserError, match=rf"has weights of a layer {layers + 2}"):
        open_model(checkpoint)


def test_weights_without_a_place_are_counted_on_record_and_in_one_line(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert UNUSED_WEIGHTS not in open_model(checkpoint).info.details
    add_weights(checkpoint, **{"value_head.weight": torch.zeros(2), "value_head.bias": torch.zeros(2)})
    model = load_model(f"hf:{checkpoint}", ModelOptions(device="cpu", dtype="float32"))
    assert model.info.details[UNUSED_WEIGHTS] == {"count": 2, "first": "value_head.bias"}
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert lines == [
        f"warning: model 'hf:{checkpoint}' has no place for 2 weights of its checkpoint, 'value_head.bias' first; run.json records them"
    ]


def test_weights_that_the_class_lists_as_to_be_ignored_are_not_reported(checkpoint: Path) -> None:
    add_weights(checkpoint, **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(2)})
    assert UNUSED_WEIGHTS not in open_model(checkpoint).info.details


# ---------------------------------------------------------------- chat templates

TEMPLATES = {
    "{{ 'a' * 300000000 }}": "takes too much memory",
    "{% for i in range(20000) %}{% for j in range(9000) %}{% endfor %}{% endfor %}": "takes more than 1 seconds",
    "{% for i in range(900) %}{{ messages[0].role * 9 }}{% endfor %}": "writes more than 10000 characters",
    "{{ 1 / 0 }}": "fails with ZeroDivisionError",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "fails with RecursionError",
    "{% for i in range(1000000) %}{% endfor %}": "fails with OverflowError",
    "{% include 'other' %}": "fails with TypeError (no loader",
    "{{ messages + 1 }}": "fails with TypeError",
    "{% if false %}?{% endif %}": "writes nothing",
    " ": "writes nothing",
    "{% for m in messages %}{{ m.role }}: {% endfor %}": "leaves out what is asked",
    "{% for %}": "is no valid template",
    "{{ messages | none_such }}": "is no valid template",
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_that_cannot_be_used_is_refused_before_it_is_rendered_here(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in {"SECONDS": 1, "BYTES": 2**28, "CHARACTERS": 10_000}.items():
        monkeypatch.setattr(template_check, name, limit)
    monkeypatch.setattr(template_check, "_chats", lambda: [[{"role": "user", "content": "?"}]])
    tokenizer = tiny_tokenizer(template)
    monkeypatch.setattr(type(tokenizer), "apply_chat_template", lambda *_, **__: pytest.fail("rendered here"))
    with pytest.raises(UserError) as error:
        check_template(tokenizer, "'x'")
    assert f"the chat template of 'x' {TEMPLATES[template]}" in str(error.value) and "\n" not in str(error.value)


def test_what_transformers_gives_templates_is_there_in_the_trial() -> None:
    tokenizer = tiny_tokenizer(
        "{{ strftime_now('%Y') and bos_token }}{{ messages | tojson(indent=2) }}{% for m in messages %}{% generation %}{{ m.content }}"
        "{% endgeneration %}{% break %}{% endfor %}{% if messages | length > 2 %}{{ raise_exception('too many') }}{% endif %}"
    )
    check_template(tokenizer, "it")
    assert render_prompt(tokenizer, [{"role": "user", "content": "?"}])


def test_a_template_that_fails_for_one_chat_is_that_items_error() -> None:
    tokenizer = tiny_tokenizer(
        "{{ 6 / (messages[0].content | length - 3) }}{% if messages[0].content == 'much' %}{{ 'a' * 2000000 }}{% endif %}"
    )
    assert render_prompt(tokenizer, [{"role": "user", "content": "?"}]) == "-3.0"
    with pytest.raises(ItemError, match="chat template refused: it fails with ZeroDivisionError"):
        render_prompt(tokenizer, [{"role": "user", "content": "???"}])
    with pytest.raises(ItemError, match="chat template refused: it writes more than 1"):
        render_prompt(tokenizer, [{"role": "user", "content": "much"}])


def test_a_model_with_such_a_template_is_refused_by_its_name(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text("{{ 1 / 0 }}")
    with pytest.raises(UserError, match=f"the chat template of '{checkpoint}' fails with ZeroDivisionError"):
        open_model(checkpoint)


# ---------------------------------------------------------------- weights of other shapes than config.json names


@pytest.fixture
def printed() -> Iterator[list[str]]:
    """What transformers would print while a test runs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(handler)
    yield lines
    logging.getLogger("transformers").removeHandler(handler)


def an_encoder(folder: Path) -> Any:
    return Encoder(["a text"], str(folder))


def a_decoder(folder: Path) -> Any:
    """As a recipe's stage starts from it."""
    recipe = load_recipe("lab-wings-stage1", [f"inputs.llm={folder}", "inputs.tower=shipped:tower"]).recipe
    return start.build(recipe, method_of(recipe))  # type: ignore[arg-type]


OPENERS = {"hf": open_model, "the decoder of a recipe": a_decoder, "a text encoder": an_encoder}
UNLIKE = (
    r"'model\.layers\.0\.mlp\.down_proj\.weight' is \[32, 48\] in model\.safetensors and \[32, 40\] by config\.json, and 5 more weights"
)


@pytest.mark.parametrize("opener", ["hf", "the decoder of a recipe"])
def test_weights_of_another_shape_are_one_sentence(opener: str, checkpoint: Path, printed: list[str]) -> None:
    """transformers prints a table and raises "For details look at the above report!"."""
    edit(checkpoint / "config.json", intermediate_size=40)
    with pytest.raises(UserError, match=rf"is not what its config\.json describes: {UNLIKE} of other shapes; get both from one source$"):
        OPENERS[opener](checkpoint)
    assert not [line for line in printed if "REPORT" in line]


@pytest.mark.skipif(sys.platform != "linux", reason="the memory that a process has is read as Linux tells it")
def test_a_decoder_that_a_configuration_leaves_out_is_not_made_by_its_default(tiny_llava: Path, tmp_path: Path) -> None:
    """transformers' default decoder of a LLaVA has 7 billion numbers, which were drawn at random before shapes were compared."""
    folder = shutil.copytree(tiny_llava, tmp_path / "checkpoint")
    edit(folder / "config.json", text_config=None)
    before, used = resource.getrlimit(resource.RLIMIT_AS), int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    try:
        with pytest.raises(UserError, match=r"describes: that is a model of [\d,]{13,} numbers, and the weights have [\d,]+; get both"):
            open_model(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("opener", OPENERS)
def test_weights_that_a_folder_lacks_are_not_drawn_at_random(opener: str, checkpoint: Path, printed: list[str]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weight, '(model\.)?layers\.1\.mlp\.up_proj\.weight' first"):
        OPENERS[opener](checkpoint)
    assert not [line for line in printed if "REPORT" in line]


@pytest.mark.parametrize("way", ["auto", "plain"])
def test_a_text_model_whose_logits_are_no_numbers_makes_no_replies_of_them(way: Any, checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="a logit is no number, so a number in its weights is damaged, or --dtype too narrow for it"):
        open_model(checkpoint, way=way)


def test_what_a_template_raises_is_one_line_of_a_few_words() -> None:
    """Its words are a stranger's, and enter errors.jsonl and pages."""
    tokenizer = tiny_tokenizer("{{ raise_exception('no such\nrole ' * 1000) }}")
    with pytest.raises(ItemError) as caught:
        render_prompt(tokenizer, [{"role": "user", "content": "?"}])
    assert "\n" not in caught.value.detail and len(caught.value.detail) <= QUOTED
