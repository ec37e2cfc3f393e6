"""Faults that users reported of checkpoints: what of a Hub repository is read and hashed, peft adapters, quantised weights, templates.

The Hub is a server in this process that speaks its protocol to huggingface_hub's own client; the oracle of adapters is peft's own model.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlparse

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.models import load as loading
from iit_bench.models.checkpoint_files import checkpoint_sha256, find_checkpoint, resolve_checkpoint
from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.huggingface.load import load
from iit_bench.models.load import load_model
from iit_bench.models.openai.load import load_tokenizer
from iit_bench.types import Message

pytestmark = pytest.mark.oracle

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
ASK = [ScoreRequest((Message("user", ("What is the capital of France?",)),), ("Paris", "red", "yes no maybe"))]


def open_model(place: Any, **options: Any) -> Any:
    return load(f"hf:{place}", ModelOptions(device="cpu", dtype="float32", **options))


# ---------------------------------------------------------------- a Hub in this process


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """`files`: path in the repository → bytes; `sent`: paths that were downloaded, by revision."""
    state = SimpleNamespace(files={}, sent=[])

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlparse(self.path).path.strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                owner, name, kind, revision = parts[2:6]
                commit = COMMITS.get(revision, revision if revision in COMMITS.values() else "")
                info = {"id": f"{owner}/{name}", "sha": commit, "siblings": [{"rfilename": path} for path in state.files]}
                tree = [{"type": "file", "path": path, "size": len(data), "oid": "0" * 40} for path, data in state.files.items()]
                if not commit:
                    return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return self._send(200, json.dumps(info if kind == "revision" else tree).encode())
            path = "/".join(parts[4:])
            if path not in state.files:
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            if self.command == "GET":
                state.sent.append((parts[3], path))
            return self._send(200, state.files[path], {"ETag": f'"{path}"', "X-Repo-Commit": parts[3]})

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for header, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(header, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", place)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # keeps the address that it was made with, maybe in another test
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", place + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield state
    server.shutdown()


def repository(folder: Path, more: dict[str, bytes]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} | more


NEEDED = {"chat_template.json", "preprocessor_config.json", "additional_chat_templates/rag.jinja", "tekken.json"}
UNREAD = {
    "consolidated.safetensors",
    "vision-lora/adapter_model.safetensors",
    "original/model.safetensors",
    "README.md",
    "training_args.bin",
}


def test_hub_id_brings_what_determines_answers_and_nothing_twice(hub, save_tiny):
    """chat_template.json and processor files were left out, consolidated.safetensors and vision-lora/ came along (twice the weights)."""
    hub.files = repository(save_tiny("llama"), dict.fromkeys([*NEEDED, *UNREAD, "modeling_own.py"], b"{}"))
    folder = resolve_checkpoint("some/model")
    sent = {path for _, path in hub.sent}
    assert sent >= NEEDED and not sent & UNREAD and "modeling_own.py" not in sent
    assert open_model("some/model").info.details["commit"] == COMMITS["main"]
    assert folder == resolve_checkpoint("some/model")


def test_code_comes_along_where_it_is_trusted_and_its_hash_covers_it(hub, save_tiny):
    """*.py was never downloaded, and changed code left the hash as it was."""
    hub.files = repository(save_tiny("llama"), {"modeling_own.py": b"ANSWER = 1"})
    folder = resolve_checkpoint("some/model", trust_remote_code=True)
    assert (folder / "modeling_own.py").read_bytes() == b"ANSWER = 1"
    before = checkpoint_sha256(folder, trust_remote_code=True)
    (folder / "modeling_own.py").unlink()
    (folder / "modeling_own.py").write_bytes(b"ANSWER = 2")
    assert checkpoint_sha256(folder, trust_remote_code=True) != before
    assert checkpoint_sha256(folder) == checkpoint_sha256(save_copy(folder, without="modeling_own.py"))


def save_copy(folder: Path, without: str) -> Path:
    target = folder.parent / "copy"
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(without))
    return target


def test_hub_id_takes_a_revision_and_a_subfolder(hub, save_tiny):
    """ID@revision and ID/folder were taken for names of repositories."""
    whole = repository(save_tiny("llama"), {})
    hub.files = {f"small/{path}": data for path, data in whole.items()} | {"small/old/model.safetensors": b"", "model.safetensors": b""}
    model = open_model("some/model/small@v1")
    assert {commit for commit, _ in hub.sent} == {COMMITS["v1"]}
    assert {path for _, path in hub.sent} == {f"small/{path}" for path in whole}
    assert model.info.details["commit"] == COMMITS["v1"] and model.info.checkpoint == "some/model/small@v1"
    with pytest.raises(UserError, match=r"neither a folder nor available from the Hub \(.*v9"):
        resolve_checkpoint("some/model@v9")
    with pytest.raises(UserError, match="has no folder 'large'"):
        resolve_checkpoint("some/model/large")


def test_tokenizer_of_a_server_takes_a_revision_and_a_subfolder(hub, save_tiny):
    """--tokenizer took ID@revision and ID/folder for names of repositories, too."""
    folder = save_tiny("llama")
    hub.files = {f"small/{path}": data for path, data in repository(folder, {}).items()}
    text = "The circle is red"
    assert load_tokenizer("some/model/small@v1", False).encode(text) == load_tokenizer(str(folder), False).encode(text)
    assert {commit for commit, _ in hub.sent} == {COMMITS["v1"]}


def test_code_of_another_repository_is_refused_where_code_is_run(save_tiny):
    """Code that auto_map takes from elsewhere would change without the checkpoint's hash."""
    folder = save_tiny("llama")
    edit_json(folder / "config.json", auto_map={"AutoConfig": "other/model--configuration_own.OwnConfig"})
    assert find_checkpoint(str(folder)).folder == folder
    with pytest.raises(UserError, match="code of another repository, 'other/model'"):
        find_checkpoint(str(folder), trust_remote_code=True)


@pytest.mark.parametrize(("progress", "terminal"), [(False, False), (False, True), (True, False), (True, True)])
def test_without_progress_no_library_shows_bars(progress, terminal, save_tiny, capfd, monkeypatch):
    """The bars "Loading weights" of transformers were shown under --quiet, and in files. Downloads are shown to who looks at a terminal."""
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils.logging import is_progress_bar_enabled

    downloads = []

    def factory(name: str, options: ModelOptions) -> Any:
        downloads.append(not are_progress_bars_disabled())
        return load(name, options)

    monkeypatch.setattr(loading, "resolve", lambda *_: factory)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    name = f"hf:{save_tiny('llama')}"
    capfd.readouterr()  # bars of writing it
    load_model(name, ModelOptions(device="cpu"), progress=progress)
    assert capfd.readouterr().err == "" and downloads == [progress and terminal] and is_progress_bar_enabled()


def test_a_context_without_bars_inside_another_leaves_downloads_as_they_were():
    """The inner one hid the Hub's downloads for the rest of the outer one, which shows them."""
    from huggingface_hub.utils import are_progress_bars_disabled

    from iit_bench.models.loading_bars import without_bars

    for downloads in (True, False):
        with without_bars(downloads=downloads):
            with without_bars(downloads=True):
                assert are_progress_bars_disabled() != downloads
            with without_bars(downloads=False):
                assert are_progress_bars_disabled()
            assert are_progress_bars_disabled() != downloads
    assert not are_progress_bars_disabled()


# ---------------------------------------------------------------- quantised weights, templates


def edit_json(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
    "gptq": ({"quant_method": "gptq", "bits": 4}, "optimum"),
    "awq": ({"quant_method": "awq", "bits": 4}, "gptqmodel"),
    "compressed-tensors": ({"quant_method": "compressed-tensors", "config_groups": {}}, "compressed-tensors"),
    "hqq": ({"quant_method": "hqq", "quant_config": {}}, "HQQ"),
    "torchao": ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "torchao"),
}


@pytest.mark.parametrize("method", METHODS)
def test_quantised_checkpoint_names_the_missing_package(save_tiny, method):
    """An ImportError ended the run as an internal error; one sentence names the package."""
    settings, package = METHODS[method]
    folder = save_tiny("llama")
    edit_json(folder / "config.json", quantization_config=settings)
    with pytest.raises(UserError, match=f"quantised with {method}, needs a package that is not installed: .*{package}"):
        open_model(folder)


def test_named_chat_templates_need_a_default_unless_there_is_one(save_tiny):
    """Templates by name without "default" failed at the first question; the only one is used, of several none is guessed."""
    folder = save_tiny("llama")
    plain = open_model(folder)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    more = folder / "additional_chat_templates"
    more.mkdir()
    (more / "rag.jinja").write_text(template)
    assert open_model(folder).score(ASK) == plain.score(ASK)
    (more / "tool_use.jinja").write_text(template)
    with pytest.raises(UserError, match=r"several chat templates \(rag, tool_use\) and none is named default"):
        open_model(folder)


# ---------------------------------------------------------------- peft


@pytest.fixture
def adapted(save_tiny: Callable[..., Path], tmp_path: Path) -> SimpleNamespace:
    """A base model, a LoRA adapter for it in a folder of its own, and peft's own model of both."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = save_tiny("llama")
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, base_model_name_or_path=str(base))
    peft_model = get_peft_model(model, config).eval()
    peft_model.save_pretrained(tmp_path / "adapter")
    return SimpleNamespace(base=base, folder=tmp_path / "adapter", peft=peft_model)


def logprobs_of(model: Any, opened: Any) -> list[float]:
    """Scores of ASK's replies by plain passes of `model`."""
    prompt = opened.tokenizer.encode(opened.render(ASK[0].messages))
    totals = []
    for reply in ASK[0].continuations:
        ids = prompt + opened.tokenizer.encode(reply)
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        totals.append(sum(float(logprobs[i - 1, ids[i]]) for i in range(len(prompt), len(ids))))
    return totals


def test_adapter_folder_is_loaded_onto_its_base_by_itself_or_by_name(adapted):
    """A folder of adapter weights alone was refused as one without weights; the hash is that of base and adapter."""
    base, by_itself, by_name = open_model(adapted.base), open_model(adapted.folder), open_model(adapted.base, adapter=str(adapted.folder))
    for model in (by_itself, by_name):
        assert model.score(ASK)[0].logprobs == pytest.approx(logprobs_of(adapted.peft, model), abs=1e-5)
        assert model.score(ASK)[0].logprobs != pytest.approx(base.score(ASK)[0].logprobs, abs=1e-2)
        assert model.info.details["adapter"] == str(adapted.folder)
    assert by_itself.info.checkpoint_sha256 == by_name.info.checkpoint_sha256 != base.info.checkpoint_sha256
    edit_json(adapted.folder / "adapter_config.json", lora_alpha=16)
    assert open_model(adapted.folder).info.checkpoint_sha256 != by_name.info.checkpoint_sha256


def test_merged_weights_beside_an_adapter_are_refused(adapted):
    """Where peft is installed, transformers applied the adapter to the merged weights once more; where it is not, it did not."""
    merged = adapted.base.parent / "merged"
    shutil.copytree(adapted.base, merged)
    adapted.peft.merge_and_unload().save_pretrained(merged)
    right = open_model(merged).score(ASK)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapted.folder / name, merged)
    with pytest.raises(UserError, match=r"adapter_config\.json beside a whole model.*delete the adapter's files"):
        open_model(merged)
    (merged / "adapter_config.json").unlink()
    assert open_model(merged).score(ASK) == right


def test_adapter_of_another_base_is_refused(adapted, save_tiny):
    """peft warns of weights without a place and goes on; here it is one sentence."""
    with pytest.raises(UserError, match=r"does not fit the checkpoint"):
        open_model(save_tiny("llama", num_hidden_layers=1), adapter=str(adapted.folder))
    with pytest.raises(UserError, match=r"has no adapter_config\.json"):
        open_model(adapted.base, adapter=str(adapted.base))
    with pytest.raises(UserError, match="is an adapter itself"):
        open_model(adapted.folder, adapter=str(adapted.folder))
