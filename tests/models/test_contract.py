"""A model's capabilities: whole, with a reason for whatever is lacking, and true of what the model does."""

from __future__ import annotations

import pytest

from iit_bench.errors import UserError
from iit_bench.models.contract import Capabilities, GenerateRequest, ModelOptions, TextModel, TextScoreRequest, as_text_model
from iit_bench.models.load import load_model
from iit_bench.types import Message

HELLO = GenerateRequest((Message("user", ("hello",)),), max_new_tokens=1)


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ({"takes_chats": False, "takes_raw_text": True}, "takes_chats"),
        ({"takes_images": False, "takes_raw_text": True}, "takes_images"),
        ({}, "takes_raw_text"),
        ({"scores": False, "takes_raw_text": True}, "scores"),
        ({"scores_images": False, "takes_raw_text": True}, "scores_images"),
        ({"generates": False, "takes_raw_text": True}, "generates"),
        ({"styles": ("cloze",), "takes_raw_text": True}, "styles"),
    ],
)
def test_whatever_is_lacking_has_a_reason(lacking, named):
    with pytest.raises(ValueError, match=f"^capabilities lack {named} without a sentence in why_not$"):
        Capabilities(**lacking)
    assert Capabilities(**lacking, why_not={named: "a reason"}).why_not[named] == "a reason"


def test_scoring_with_images_needs_no_reason_of_its_own_where_images_or_scores_are_lacking():
    Capabilities(takes_images=False, scores_images=False, takes_raw_text=True, why_not={"takes_images": "text only"})
    Capabilities(scores=False, scores_images=False, takes_raw_text=True, why_not={"scores": "it only generates"})


@pytest.mark.parametrize("name", ["wings", "llava", "base-llm", "random", "majority"])
@pytest.mark.parametrize("blind", [False, True])
def test_capabilities_are_true_of_the_bundled_models(name, blind):
    model = load_model(name, ModelOptions(device="cpu"), blind=blind)
    can = model.capabilities
    assert can.takes_images == model.info.accepts_images == (blind or name != "base-llm")
    assert can.takes_raw_text == isinstance(model, TextModel) == (not blind and name != "majority")
    if can.generates:
        assert model.generate([HELLO])[0].new_tokens == 1
    else:
        with pytest.raises(UserError, match="cannot generate"):
            model.generate([HELLO])
    if can.takes_raw_text:
        (result,) = as_text_model(model).score_text([TextScoreRequest("one and", (" one", " two"))])
        assert len(result.logprobs) == 2
    else:
        with pytest.raises(UserError, match=r"takes no raw text \(.*\), so it cannot run lm-eval's tasks; use --suite iit"):
            as_text_model(model)
