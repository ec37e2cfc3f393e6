"""Runs that are interrupted, resumed, refused, repeated, and measured against a base."""

from __future__ import annotations

import dataclasses

import pytest

from evaluators.iit.evaluate import evaluate
from evaluators.runs.header import load_options, run_date
from evaluators.runs.options import RunOptions
from evaluators.runs.summary import summary_text
from iit_bench.errors import MachineError, UserError
from iit_bench.models.baselines import RandomModel
from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.runs import load_run_header, save_run_header

pytestmark = pytest.mark.slow

T_ONLY = ("T", "TT", "TTT")


def random_model(seed: int = 0) -> Model:
    return load_model("random", ModelOptions(seed=seed))


class Unasked(RandomModel):
    """The model `random`, where nothing should be left to ask."""

    def score(self, batch):
        raise AssertionError(f"asked {len(batch)} requests")


class Flaky(RandomModel):
    """A server that goes away after five batches."""

    left = 5

    def score(self, batch):
        self.left -= 1
        if self.left < 0:
            raise MachineError("server gone", "connection refused")
        return super().score(batch)


@pytest.mark.parametrize("history", ["gold", "own"])
def test_machine_error_leaves_the_run_incomplete_and_resuming_completes_it(run, history):
    first = run(Flaky("random", ModelOptions()), batch_size=4, history=history)
    assert not first.results.complete
    assert {error["kind"] for error in first.errors} == {"machine"}
    assert first.results.outcomes["error"] > 0
    second = run(random_model(), batch_size=4, history=history)
    assert second.results.complete
    assert (second.errors, second.run["resumed"]) == ((), 1)
    whole = run(random_model(), out="whole", batch_size=4, history=history)
    assert (second.path / "predictions.parquet").read_bytes() == (whole.path / "predictions.parquet").read_bytes()


# ---------------------------------------------------------------- going on, starting over, repeating


def test_finished_run_is_not_computed_again(run):
    run(random_model())
    run(Unasked("random", ModelOptions()))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"style": "letters"}, "style 'cloze' there, 'letters' now"),
        ({"history": "own"}, "history 'gold' there, 'own' now"),
        ({"limit": 2}, "limit None there, 2 now"),
        ({"tiers": ("T",)}, r"tiers \['T', 'TT'"),
        ({"system_prompt": "x"}, "system_prompt '' there, 'x' now"),
        ({"batch_size": 4}, "batch_size None there, 4 now"),
        ({"seed": 1}, "seed 0 there, 1 now"),
    ],
)
def test_folder_of_another_run_is_refused_and_kept(run, changed, message):
    before = run(random_model())
    files = {path.name: path.read_bytes() for path in before.path.iterdir()}
    with pytest.raises(UserError, match=rf"holds another run \(.*{message}.*--fresh"):
        run(random_model(), **changed)
    assert {path.name: path.read_bytes() for path in before.path.iterdir()} == files


def test_other_model_or_benchmark_is_another_run(run, bench):
    run(random_model())
    with pytest.raises(UserError, match="model checkpoint_sha256"):
        run(random_model(seed=5))
    with pytest.raises(UserError, match=r"benchmark '[0-9a-f]+' there, 'other' now"):
        run(random_model(), dataclasses.replace(bench, manifest=dict(bench.manifest) | {"rows_sha256": "other"}))


def test_fresh_starts_over_but_not_in_a_foreign_folder(run, tmp_path):
    run(random_model())
    found = run(random_model(), fresh=True, style="letters")
    assert (found.run["style"], found.run["resumed"]) == ("letters", 0)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not a run folder"):
        run(random_model(), out="foreign", fresh=True)
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]


def test_run_killed_while_it_wrote_its_first_file_resumes(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.json.17.partial").write_text('{"format": "iit-b')
    found = run(random_model(), limit=1)
    assert found.run["resumed"] == 0
    assert not any(path.name.startswith(".") for path in found.path.iterdir())


def test_run_is_repeated_from_its_run_json(bench, tmp_path):
    options = RunOptions(
        model="random", bench=bench.path, out=tmp_path / "a", seed=3, tiers=("TV", "T"), limit=4, style="letters", system_prompt="x"
    )
    evaluate(options, progress=False)
    for source in (tmp_path / "a", tmp_path / "a" / "run.json"):
        again, header = load_options(source, out=tmp_path / "b"), load_run_header(tmp_path / "a")
        assert again == dataclasses.replace(options, out=tmp_path / "b", date=run_date(header), threads=header["threads"])
    evaluate(again, progress=False)
    assert (tmp_path / "a" / "predictions.parquet").read_bytes() == (tmp_path / "b" / "predictions.parquet").read_bytes()


# ---------------------------------------------------------------- against a base


def test_forgetting_is_the_paired_difference_on_text_targets(run, bench, tmp_path, llama):
    base = run(llama, out="base")
    found = run(random_model(), base=base.path)
    assert found.results.forgetting is not None
    assert found.results.forgetting.tiers == T_ONLY
    right = {(r, p.dialogue): p.outcome == "correct" for r, side in (("a", found), ("b", base)) for p in side.predictions}
    pairs = [right["b", dialogue] - right["a", dialogue] for side, dialogue in right if side == "b"]
    assert len(pairs) == 18
    assert found.results.forgetting.pooled.difference.value == pytest.approx(sum(pairs) / 18)
    assert found.results.forgetting.base == "base"
    assert "retention" in summary_text("x", found.results)


def test_base_that_cannot_be_compared_is_refused_before_any_work(run, llama, tmp_path):
    base = run(llama, out="base", style="letters")
    with pytest.raises(UserError, match="style"):
        run(Unasked("random", ModelOptions()), base=base.path)
    assert not (tmp_path / "run").exists()


def test_a_base_without_a_text_tier_in_common_is_refused_before_any_work(run, llama, tmp_path):
    base = run(llama, out="base", tiers=("T",))
    with pytest.raises(UserError, match="no tier that ends in T in common"):
        run(Unasked("random", ModelOptions()), base=base.path, tiers=("V", "TT"))
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- whether it is plain


def test_a_run_of_before_the_engines_goes_on_to_the_same_bytes(bench, tiny_llava, tmp_path):
    """Such runs were plain. Loaded otherwise, the model would read images once and chats together, which shows in the last digits."""
    whole = tmp_path / "a"
    options = RunOptions(model=f"hf:{tiny_llava}", bench=bench.path, out=whole, tiers=("VV",), limit=2, device="cpu", engine="plain")
    evaluate(options, progress=False)
    before = tmp_path / "b"
    before.mkdir()
    header = load_run_header(options.out)
    save_run_header(before, _without(header, "engine", "threads", "launch") | {"arguments": _without(header["arguments"], "engine")})
    lines = (options.out / "responses.jsonl").read_bytes().splitlines(keepends=True)
    (before / "responses.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    evaluate(dataclasses.replace(options, out=before, engine="auto"), progress=False)
    found = load_run_header(before)
    assert found["model"]["details"]["images"]["way"] == "with every chat"
    assert (found["arguments"]["engine"], found["engine"]["way"], found["resumed"]) == ("plain", "plain", 1)
    assert (before / "predictions.parquet").read_bytes() == (options.out / "predictions.parquet").read_bytes()


def test_a_run_is_not_resumed_where_replies_are_generated_otherwise(bench, tiny_llava, tmp_path):
    options = RunOptions(model=f"hf:{tiny_llava}", bench=bench.path, out=tmp_path / "run", tiers=("T",), limit=1, device="cpu", blind=True)
    evaluate(options, progress=False)
    header = load_run_header(options.out)
    ways = header["engine"]["ways"]
    assert ways["together"] == header["model"]["details"]["generation"]["together"]
    other = header["engine"] | {"ways": ways | {"together": "elsewhere"}}
    save_run_header(options.out, _without(header) | {"engine": other})
    with pytest.raises(UserError, match=f"together: 'elsewhere', here '{ways['together']}'"):
        evaluate(options, progress=False)


def _without(record, *names):
    return {name: value for name, value in record.items() if name not in ("format", "version", *names)}


def test_a_run_goes_on_as_plain_as_it_was_begun(bench, tmp_path):
    """Where no tree is right for a model, the record of rows and batches is the same with and without the option."""
    options = RunOptions(model="random", bench=bench.path, out=tmp_path / "run", tiers=("T",), limit=1, engine="plain")
    evaluate(options, progress=False)
    evaluate(dataclasses.replace(options, engine="auto"), progress=False)
    assert load_run_header(options.out)["arguments"]["engine"] == "plain"
    evaluate(dataclasses.replace(options, engine="auto", fresh=True), progress=False)
    with pytest.raises(UserError, match=r"--engine 'auto' there, 'plain' now"):
        evaluate(options, progress=False)
