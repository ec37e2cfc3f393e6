"""What the files of a checkpoint claim, checked before any of them is loaded.

A folder comes from strangers: its index may name a pickle, and its configuration sizes that no memory holds. Only safetensors of the folder
itself are read, and no size may go far beyond the shapes that their headers have. All else that a configuration may have wrong, the library
that reads it says; `refused` makes one sentence of that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from iit_bench.errors import MachineError, UserError, described, one_line

SAFETENSORS = ".safetensors"
INDEX = f"{SAFETENSORS}.index.json"  # the end of the name of each list of shards
# Numbers of a configuration that decide how much is allocated: of layers, and of all else that has a size.
LAYERS = re.compile(r"(layers?|blocks|depths?|stages)$")
SIZES = re.compile(r"(size|dims?|width|rank|r|heads?|experts|labels|channels|features|embd|inner|d_model|d_ff|d_kv|filters|tokens)$")
COUNTS = re.compile("(n|num)_")  # the beginning of names of numbers that are never negative
MOST_LAYERS = 256  # are believed of any checkpoint, however few tensors it has: layers may share them
NO_WEIGHTS = 2**20  # taken for the largest size where only a configuration is read
MOST = 2**20  # the same of other sizes: those of images, for example, and of parts that a model leaves out, are those of no tensor
MOST_OF_ADAPTERS = 1024
# Of `refused`, where the first questions are asked, those of the checks at load.
CANNOT_BE_ASKED = "cannot be asked as its files say"
CHECK_FILES = "get its configuration, tokenizer and processor again; --debug shows where"
WHOLE_NUMBERS = frozenset({"BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})  # dtypes of safetensors
COMPLEX = frozenset({"C64", "C128"})  # of these too the cast takes a part away
CODE = "_implementation"  # the end of fields whose value, with a slash, transformers 5.23 downloads from the Hub and runs: attn_, experts_
QUANTIZED = ("quantization_config", "compression_config")  # fields of a configuration whose weights are stored as whole numbers
PACKED = 16  # numbers of a quantised tensor that are stored as one


@contextmanager
def refused(what: str, fix: str = "get the file again") -> Iterator[None]:
    """Turn any error of a library that reads a stranger's files into one sentence.

    Args:
        what: which file or checkpoint cannot be read, the sentence's beginning.
        fix: its end.

    Raises:
        UserError: the library raised something. Errors of this project pass through.
    """
    try:
        yield
    except (UserError, MachineError):
        raise
    except ImportError as error:
        raise UserError(f"{what} needs a package that is not installed: {one_line(error)}") from error
    except Exception as error:
        words = one_line(error) if isinstance(error, (OSError, ValueError)) else described(error)
        raise UserError(f"{what}: {words.rstrip('.')}; {fix}") from error


def check_folder(folder: Path, what: str) -> None:
    """Refuse a model's folder whose index or configuration does not fit its safetensors; no tensor is read.

    Args:
        folder: with config.json or adapter_config.json.
        what: the checkpoint's name for errors.

    Raises:
        UserError: an index names something else than safetensors of the folder, a file is missing, damaged or no plain file, a size is
            beyond all shapes, weights are whole numbers without a quantization, or a field names code of another repository.
    """
    if special := sorted(path.name for path in folder.iterdir() if path.exists() and not (path.is_file() or path.is_dir())):
        raise UserError(f"{what}: {special[0]!r} is a pipe, socket or device, which is not read; get the folder again")
    files: set[Path] = set()
    for index in sorted(folder.glob(f"*{INDEX}")):
        files |= set(shards(index))
    files |= set(folder.glob(f"*{SAFETENSORS}"))
    headers = {name: header for file in sorted(files) for name, header in shard_headers(file).items()}
    shapes = [shape for shape, _ in headers.values()]
    if (folder / "config.json").is_file():
        config = read_object(folder / "config.json")
        _check_code(config, f"{what}: config.json")
        _check_sizes(config, shapes, MOST, f"{what}: config.json")
        _check_numbers(config, headers, what)
    if (folder / "adapter_config.json").is_file():
        fields = read_object(folder / "adapter_config.json")
        ranks = fields.get("rank_pattern")
        fields["rank"] = list(ranks.values()) if isinstance(ranks, dict) else []
        _check_sizes(fields, shapes, MOST_OF_ADAPTERS, f"{what}: adapter_config.json")
        _check_numbers({}, headers, what, "adapter_config.json")  # peft writes no quantized adapters


def shards(index: Path) -> list[Path]:
    """The files that an index of safetensors names, sorted by name.

    Raises:
        UserError: it is no index, names another kind of file or one elsewhere, or a file is missing.
    """
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{str(index)!r} is not an index of safetensors shards; get the file again")
    names = sorted(set(places.values()))
    for name in names:
        if not name.endswith(SAFETENSORS) or Path(name).name != name:
            raise UserError(f"{str(index)!r} names {name!r}, and only safetensors beside it are read; convert it with save_pretrained")
    if absent := [name for name in names if not (index.parent / name).is_file()]:
        raise UserError(f"checkpoint {str(index.parent)!r} lacks {len(absent)} of {len(names)} shards, {absent[0]!r} first; get it again")
    return [index.parent / name for name in names]


def loaded_files(folder: Path) -> list[Path]:
    """The safetensors of a folder that transformers loads: the whole file, else the shards of its index; others may lie beside them.

    Raises:
        UserError: see `shards`.
    """
    whole, index = folder / f"model{SAFETENSORS}", folder / f"model{INDEX}"
    if whole.is_file():
        return [whole]
    return shards(index) if index.is_file() else sorted(folder.glob(f"*{SAFETENSORS}"))


def shard_headers(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and safetensors' name of the dtype of each tensor of a shard, by name; no tensor is read.

    Raises:
        UserError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as shard:
            slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118 - a shard is not a dict
            return {name: (tuple(piece.get_shape()), piece.get_dtype()) for name, piece in slices.items()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"shard {str(file)!r} cannot be read ({one_line(error)}); get the file again") from error


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_nan)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(file)!r} cannot be read ({one_line(error)}); get the file again") from error
    if not isinstance(content, dict):
        raise UserError(f"{str(file)!r} holds no JSON object; get the file again")
    return content


def _no_nan(name: str) -> float:
    """Infinity is the limit of a range in some configurations; nothing is computed with NaN.

    Raises:
        ValueError: it is NaN.
    """
    if name == "NaN":
        raise ValueError("NaN is no number")
    return float(name)


def _check_sizes(fields: Mapping[str, Any], shapes: list[tuple[int, ...]], most: int, where: str) -> None:
    """Refuse numbers far beyond what the tensors have. Numbers within these bounds that are wrong make no large allocation."""
    largest = max((size for shape in shapes for size in shape), default=NO_WEIGHTS)
    for name, value in fields.items():
        if isinstance(value, Mapping):
            _check_sizes(value, shapes, most, f"{where}: {name}")
            continue
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            if COUNTS.match(name) and number < 0:
                raise UserError(f"{where} has {name} {number}; get the file again")
            if LAYERS.search(name) and number > max(len(shapes), MOST_LAYERS):
                raise UserError(f"{where} has {name} {number}, and the weights are {len(shapes)} tensors; get both from one source")
            if SIZES.search(name) and number > max(PACKED * largest, most):
                raise UserError(f"{where} has {name} {number}, and no tensor is wider than {largest}; get both from one source")


def _check_code(fields: Mapping[str, Any], where: str) -> None:
    """Refuse kernels of the Hub in place of an attention: transformers runs them without asking, and no hash covers them."""
    for name, value in fields.items():
        if name.endswith(CODE) and "/" in json.dumps(value):
            raise UserError(f"{where} has {name} {value!r}, which is code of another repository; take the field out")
        if isinstance(value, Mapping):
            _check_code(value, f"{where}: {name}")


def _check_numbers(
    config: Mapping[str, Any], headers: Mapping[str, tuple[tuple[int, ...], str]], what: str, by: str = "config.json"
) -> None:
    """Refuse complex weights, and whole numbers that no quantization explains: transformers 5.23 and peft cast them in silence."""
    parts = (config, *(part for part in config.values() if isinstance(part, dict)))
    quantized = any(name in part for part in parts for name in QUANTIZED)
    odd = COMPLEX if quantized else COMPLEX | WHOLE_NUMBERS
    cast = sorted(name for name, (_, dtype) in headers.items() if name.endswith(".weight") and dtype in odd)
    if cast:
        dtype = headers[cast[0]][1]
        kind = "complex numbers" if dtype in COMPLEX else f"whole numbers, and its {by} names no quantization"
        raise UserError(f"{what}: {len(cast)} weights, {cast[0]!r} ({dtype}) first, are {kind}; get weights and {by} from one source")
