"""`--suite all` through a server: one model, three suites, and what each of them cost."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from iit_bench.cli import main
from iit_bench.storage.runs import load_run

TASK = """
task: my_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/words.jsonl}}, cache_dir: {folder}/cache}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "red"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")
@pytest.mark.usefixtures("warm_workers")
def test_a_chat_server_goes_through_all_suites_and_each_records_what_it_used(serve, replies, bench, tmp_path, capsys):
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "words.jsonl").write_text("".join(json.dumps({"question": f"Which colour is number {i}?"}) + "\n" for i in range(5)))
    (folder / "my_words.yaml").write_text(TASK.format(folder=folder))
    server = serve(lambda path, body: replies.chat("red", prompt=10 + 64 * replies.content(body)[1], reply=1))
    words = [
        "eval",
        "--suite",
        "all",
        "--model",
        "openai:m",
        "--base-url",
        server.url,
        "--retries",
        "0",
        "--quiet",
        "--bench",
        str(bench.path),
    ]
    words += ["--tasks", "my_words,easyvqa", "--include-path", str(folder), "--apply-chat-template", "--limit", "3", "--tiers", "T,V"]
    words += ["--price-in", "1", "--price-out", "1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    iit, text, vqa = (load_run(tmp_path / "out" / suite) for suite in ("iit", "text", "vqa"))
    assert text.results.outcomes["correct"] == 3 and vqa.run["model"] == text.run["model"] == iit.run["model"]
    for suite, run in (("iit", iit), ("text", text), ("vqa", vqa)):
        usage = run.run["usage"]
        images = round((usage["prompt_tokens"] - 10 * usage["answers"]) / 64)
        assert usage["cost"] == pytest.approx((11 * usage["answers"] + 64 * images) / 1e6) and bool(images) is (suite != "text")
        assert f"suite {suite}: the server gave {usage['answers']} answers: " in said
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert page.count("<tbody>") and 'id="overview"' in page
