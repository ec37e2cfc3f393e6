"""From `openai:MODEL --base-url URL` to a model behind a server, probed: a chat server, or with --tokenizer one that is sent tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError
from iit_bench.models.checkpoint_files import parse_hub_place
from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.openai.adapter import ChatServer
from iit_bench.models.openai.client import Client
from iit_bench.models.openai.probe import probe_chat_server, probe_token_server
from iit_bench.models.openai.token_adapter import TokenServer
from iit_bench.models.rendering import ensure_template, template_sha256
from iit_bench.models.special_tokens import drop_end_tokens
from iit_bench.models.template_arguments import fix_template
from iit_bench.models.template_check import read_tokenizer

PREFIX = "openai:"


def load(name: str, options: ModelOptions) -> Model:
    """A model behind a server; `name` is `openai:MODEL`, MODEL as the server knows it.

    Raises:
        UserError: the server is unavailable, rejects the probes, or does not speak OpenAI's protocol.
    """
    defaults = ModelOptions()
    for option in ("checkpoint", "device", "dtype"):
        if getattr(options, option) != getattr(defaults, option):
            raise UserError(f"model {name!r} runs on a server, which got this option when it was started; leave out --{option}")
    client, served = Client(options.server), name.removeprefix(PREFIX)
    if not options.server.tokenizer:
        return ChatServer(name, served, client, probe_chat_server(client, served, options.chat_template_kwargs))
    if options.server.batch_api:
        raise UserError("--batch-api sends chats, which a provider renders itself; leave out --tokenizer, or --batch-api")
    tokenizer = load_tokenizer(options.server.tokenizer, options.trust_remote_code)
    has_template, dropped = ensure_template(tokenizer), drop_end_tokens(tokenizer)
    own_template = template_sha256(tokenizer.chat_template)
    fixed = fix_template(tokenizer, options, name)
    findings = probe_token_server(client, served, tokenizer, options.chat_template_kwargs)
    model = TokenServer(name, served, client, findings, tokenizer=tokenizer, has_chat_template=has_template)
    model.info = replace(model.info.with_settings(**dropped, **fixed), chat_template_sha256=own_template)
    return model


def load_tokenizer(place: str, trust_remote_code: bool) -> Any:
    """A tokenizer of transformers, from a folder or the Hub.

    Raises:
        UserError: there is none.
    """
    folder = Path(place).expanduser()
    hub_id, subfolder, revision = parse_hub_place(place)
    where: dict[str, Any] = {"subfolder": subfolder, "revision": revision or None} if not folder.is_dir() else {}
    what = f"--tokenizer {place!r} cannot be loaded"
    where["trust_remote_code"] = trust_remote_code
    return read_tokenizer(folder if folder.is_dir() else hub_id, what, "give the model's folder or Hub id", **where)
