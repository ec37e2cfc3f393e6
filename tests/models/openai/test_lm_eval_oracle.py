"""Our view of a server against lm-eval's own API models, both through `simple_evaluate`, on the same servers and tasks."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from lm_eval import simple_evaluate

from evaluators.text.model import EngineLM
from evaluators.text.tasks import TaskOptions, Tasks, load_tasks
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits

pytestmark = pytest.mark.oracle

pytest.importorskip("tenacity")
DATA = Path(__file__).parents[2] / "data"
CHOICES = ("arc_easy", "winogrande", "hellaswag")  # choices after a context, contexts before one end, several tokens


@pytest.fixture(scope="module")
def tasks_of(tmp_path_factory):
    """tasks_of(name, …) → lm-eval's own tasks over small files in the real schemas."""
    root = tmp_path_factory.mktemp("text-snapshots")
    runpy.run_path(str(DATA / "make_text_snapshots.py"))["write_text"](root, 6)
    old = runpy.run_path(str(DATA / "make_snapshots.py"))
    old["hellaswag"](root), old["winogrande"](root)
    return lambda *names: load_tasks(names, TaskOptions(data_root=root, num_fewshot=1), tmp_path_factory.mktemp("scratch"))


def run(lm, tasks: Tasks, **more):
    """lm-eval's results, six documents a task."""
    ways = {"num_fewshot": 1, "limit": 6, "gen_kwargs": {"max_gen_toks": 8}, "bootstrap_iters": 0}
    return simple_evaluate(model=lm, tasks=list(tasks.loaded["tasks"]), task_manager=tasks.manager, **ways, **more)


@pytest.mark.slow
def test_scores_and_continuations_are_those_of_lm_evals_completions_model(serve, load, completions_of, save_tiny, tasks_of, tmp_path):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    folder = save_tiny("llama", max_position_embeddings=1024)
    server = serve(completions_of(folder))
    model = load(server, tokenizer=str(folder))
    theirs = run(
        LocalCompletionsAPI(model="m", base_url=f"{server.url}/completions", tokenizer=str(folder), tokenizer_backend="huggingface",
                            max_length=model.context_limit, eos_string=model.tokenizer.eos_token),
        tasks_of(*CHOICES, "gsm8k"),
    )  # fmt: skip
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        ours = run(EngineLM(model, log, BatchLimits.for_model(model.info, None)), tasks_of(*CHOICES, "gsm8k"))
    assert set(ours["results"]) == set(theirs["results"]) == {*CHOICES, "gsm8k"}
    for task, samples in theirs["samples"].items():
        for a, b in zip(samples, ours["samples"][task], strict=True):
            assert a["arguments"] == b["arguments"]
            for (one,), (other,) in zip(a["resps"], b["resps"], strict=True):
                if task == "gsm8k":
                    assert one == other and one
                else:
                    assert one[0] == pytest.approx(other[0], abs=1e-4) and one[1] == other[1]
    for task, row in theirs["results"].items():
        metrics = {name: value for name, value in row.items() if isinstance(value, float)}
        assert metrics == pytest.approx({name: ours["results"][task][name] for name in metrics})


@pytest.mark.slow
def test_chats_are_those_of_lm_evals_chat_completions_model(serve, load, replies, tasks_of, tmp_path):
    from lm_eval.models.openai_completions import LocalChatCompletion

    server = serve(lambda path, body: replies.chat(f"#### {len(json.dumps(body['messages'])) % 7}"))
    model = load(server)
    chat = {"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "Be brief."}
    server.seen.clear()
    theirs = run(LocalChatCompletion(model="m", base_url=f"{server.url}/chat/completions"), tasks_of("gsm8k"), **chat)
    seen = server.bodies()
    server.seen.clear()
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        ours = run(EngineLM(model, log, BatchLimits.for_model(model.info, None)), tasks_of("gsm8k"), **chat)
    assert len(seen) == 6
    kept = ("messages", "max_tokens", "temperature", "stop", "model")
    sent, expected = ([{name: body[name] for name in kept} for body in bodies] for bodies in (server.bodies(), seen))
    assert sorted(sent, key=json.dumps) == sorted(expected, key=json.dumps)
    assert ours["results"]["gsm8k"] == theirs["results"]["gsm8k"]
