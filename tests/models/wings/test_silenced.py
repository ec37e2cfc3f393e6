"""A learner that is silenced at some tokens, against a slow loop over the equations with that learner's weight at 0 there."""

from __future__ import annotations

import pytest
import torch

from iit_bench.models.wings.silenced import silenced

IMAGE = 47  # the placeholder of `kit`'s models
LAYOUT = "tttItttIIt"


def positions(row, place):
    marks = [token == IMAGE for token in row.ids]
    return [i for i, is_image in enumerate(marks) if place == "everywhere" or is_image == (place == "image")]


def logits(model, row):
    with torch.no_grad():
        return model(torch.tensor([row.ids]), image_features=row.features).logits[0]


@pytest.mark.oracle
@pytest.mark.parametrize("place", ["text", "image", "everywhere"])
@pytest.mark.parametrize("learner", ["visual", "textual"])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_silenced_learner_equals_the_equations_without_it(kit, kind, learner, place):
    model = kit.build(kind)
    row = kit.make_row(model, LAYOUT, 1)
    whole = logits(model, row)
    with silenced(model, learner, place):
        found = logits(model, row)
    expected = kit.reference_logits(model, row, silent={learner: positions(row, place)})
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    assert (found[3:] - whole[3:]).abs().amax() > 0.05 and torch.equal(found[:3], whole[:3])
    assert torch.equal(logits(model, row), whole), "nothing of it is left"


@pytest.mark.oracle
def test_two_learners_can_be_silenced_at_once(kit):
    model = kit.build()
    row = kit.make_row(model, LAYOUT, 1)
    with silenced(model, "visual", "text"), silenced(model, "textual", "image"):
        found = logits(model, row)
    silent = {"visual": positions(row, "text"), "textual": positions(row, "image")}
    torch.testing.assert_close(found, kit.reference_logits(model, row, silent=silent), atol=2e-4, rtol=1e-4)


def test_passes_with_a_cache_equal_a_whole_pass(kit):
    model = kit.build()
    batch = kit.collate([kit.make_row(model, LAYOUT, 1), kit.make_row(model, "ttIttttIIt", 2)])
    with silenced(model, "visual", "text"):
        whole = torch.stack(kit.logits_by_row(model, batch))
        torch.testing.assert_close(kit.in_chunks(model, batch, [2, 9, 17, 18]), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "fields, learner, place, words",
    [
        ({}, "video", "text", "no learner 'video'"),
        ({}, "visual", "pictures", "at 'pictures'"),
        ({"learners": ["visual"]}, "visual", "text", "with a router"),
        ({"mode": "released"}, "visual", "text", "mode 'strict'"),
    ],
)
def test_what_cannot_be_silenced_is_refused(kit, fields, learner, place, words):
    with pytest.raises(ValueError, match=words), silenced(kit.build(**fields), learner, place):
        pass
