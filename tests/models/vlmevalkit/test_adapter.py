"""`vlmeval:NAME`: a small model of VLMEvalKit's own kind in its zoo, run in VLMEvalKit's own process.

The full package is 177 others, too much for a test; a sitecustomize.py in the worker's path puts empty shells and a zoo of three where its
package `__init__` files would load everything. The models' base class and the way they are called are VLMEvalKit's own.
"""

from __future__ import annotations

import ssl
import textwrap
from importlib.util import find_spec

import pytest
import torch

from iit_bench.cli import main
from iit_bench.errors import ItemError, UserError
from iit_bench.models.contract import GenerateRequest, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.models.vlmevalkit.encoding import one_message
from iit_bench.storage.runs import load_run
from iit_bench.types import Image, Message

pytestmark = pytest.mark.skipif(find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")

ZOO = """
import os, ssl, sys
from functools import partial
from importlib.util import find_spec
from types import ModuleType

if "iit_bench.models.vlmevalkit.worker" in " ".join(sys.orig_argv):
    root = list(find_spec("vlmeval").submodule_search_locations)[0]
    for name in ("", ".vlm", ".dataset"):
        shell = ModuleType("vlmeval" + name)
        shell.__path__ = [os.path.join(root, *name.split("."))]
        sys.modules["vlmeval" + name] = shell
    sys.modules["vlmeval.dataset"].DATASET_TYPE = lambda dataset, default="MCQ": default
    from vlmeval.vlm.base import BaseModel

    class Tiny(BaseModel):
        INTERLEAVE = True

        def __init__(self, greeting="seen"):
            super().__init__()
            self.greeting = greeting
            ssl._create_default_https_context = ssl._create_unverified_context  # as VLMEvalKit's package does
            print("a word on standard output")

        def generate_inner(self, message, dataset=None):
            texts = [part["value"] for part in message if part["type"] == "text"]
            if "fail" in texts[-1]:
                raise RuntimeError("out of\\nmemory")
            if "die" in texts[-1]:
                os._exit(3)
            if "give up" in texts[-1]:
                return "Failed to obtain answer via API."
            from PIL import Image
            sizes = [Image.open(part["value"]).size for part in message if part["type"] == "image"]
            return f"{self.greeting} {sizes} after {[part['type'] for part in message]}: {texts[-1]} "

    class One(Tiny):
        INTERLEAVE = False

        def generate_inner(self, message, dataset=None):
            return f"{self.message_to_promptimg(message)[0]}"

    config = ModuleType("vlmeval.config")
    config.supported_VLM = {"Tiny-1B": partial(Tiny, greeting="hello"), "One-1B": One, "Gated-1B": partial(open, "/no/weights")}
    sys.modules["vlmeval.config"] = config
"""


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(ZOO))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def ask(*parts, **more) -> GenerateRequest:
    return GenerateRequest((Message("user", parts),), **more)


@pytest.mark.slow
def test_model_of_the_zoo_answers_with_images_and_leaves_this_process_unchanged(zoo, make_image, capfd):
    before = (ssl._create_default_https_context, torch.is_grad_enabled(), torch.initial_seed())
    model = load_model("vlmeval:Tiny-1B", ModelOptions())
    small, large = make_image(0), make_image(1, size=48)
    asked = [ask(small, "\nWhich?", large, " And this?"), ask("No image?")]
    bad = {"unreadable image": (Image(b"no picture"), "x"), "failed: RuntimeError: out of memory": ("please fail",)}
    bad |= {"failed: Failed to obtain": ("give up",)}
    assert model.generate(asked[:1])[0].text == "hello [(32, 32), (48, 48)] after ['image', 'text', 'image', 'text']:  And this?"
    assert model.generate(asked[1:2])[0].text == "hello [] after ['text']: No image?"
    for message, parts in bad.items():
        with pytest.raises(ItemError, match=message):
            model.generate([ask(*parts)])
    assert model.generate(asked[1:2])[0].text.endswith("No image?")  # it lives on
    assert (model.capabilities.scores, model.info.accepts_images, model.info.details["class"]) == (False, True, "Tiny")
    with pytest.raises(UserError, match="VLMEvalKit's process ended"):
        model.generate([ask("now die")])
    assert (ssl._create_default_https_context, torch.is_grad_enabled(), torch.initial_seed()) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_images_that_vlmevalkit_would_leave_out_in_silence_are_an_error_of_the_item(zoo, make_image):
    model = load_model("vlmeval:One-1B", ModelOptions())
    assert model.generate([ask(make_image(0), "one image")])[0].text == "one image"
    with pytest.raises(ItemError, match="several images: 2; the model takes one"):
        model.generate([ask(make_image(0), make_image(1), "two")])


@pytest.mark.slow
def test_run_on_a_benchmark_generates_and_counts_what_failed(zoo, bench, tmp_path):
    words = ["eval", "--model", "vlmeval:One-1B", "--bench", str(bench.path), "--limit", "2", "--out", str(tmp_path / "run"), "--quiet"]
    assert main(words) == 1
    found = load_run(tmp_path / "run")
    assert found.run["scoring"] == "generate"
    failed = {one.tier for one in found.predictions if one.outcome == "error"}
    assert failed == {tier for tier in bench.tiers if tier.count("V") > 1}
    assert {error["reason"] for error in found.errors} == {"several images"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Tiny-1b", "VLMEvalKit's zoo has no model 'Tiny-1b'; did you mean 'Tiny-1B'?"),
        ("Gated-1B", "VLMEvalKit cannot load its model 'Gated-1B': FileNotFoundError"),
    ],
)
def test_model_that_the_zoo_does_not_give_is_one_sentence(zoo, name, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        load_model(f"vlmeval:{name}", ModelOptions())


@pytest.mark.slow
def test_package_that_is_not_whole_is_one_sentence():
    with pytest.raises(UserError, match=r"model 'vlmeval:X' needs the whole of VLMEvalKit \(.*\): pip install ms-vlmeval") as found:
        load_model("vlmeval:X", ModelOptions())
    assert "\n" not in str(found.value)


def test_options_that_vlmevalkit_decides_itself_are_refused():
    with pytest.raises(UserError, match="decides itself how 'vlmeval:X' is loaded; leave out --dtype"):
        load_model("vlmeval:X", ModelOptions(dtype="float16"))


def test_lone_question_is_put_as_it_is_and_a_dialogue_in_the_plain_form(make_image):
    image = make_image(0)
    lone = Message("user", (image, "\nWhich?"))
    assert one_message([lone]) == [image, "\nWhich?"]
    chat = [Message("system", ("Be brief.",)), lone, Message("assistant", ("red",)), Message("user", ("And now?",))]
    assert one_message(chat) == ["Be brief.\n\nQuestion: ", image, "\nWhich?\nAnswer: red\n\nQuestion: And now?\nAnswer:"]


@pytest.mark.slow
def test_reasoning_of_a_zoo_model_is_no_part_of_its_reply(zoo):
    model = load_model("vlmeval:Tiny-1B", ModelOptions())
    closed, cut = (model.generate([ask(words)])[0] for words in ("<think>A?</think> B", "<think>It is B"))
    assert (closed.text, closed.unfinished_reasoning) == ("B", False) and closed.reasoning.endswith("A?")
    assert (cut.text, cut.unfinished_reasoning) == ("", True) and cut.reasoning.endswith("It is B")
