"""The options of a model behind a server: shared by the command line, evaluation and the models."""

from __future__ import annotations

from dataclasses import dataclass, field

SERVER = "server"  # the device in run.json of a model behind a server


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a model behind a server is reached, and what it costs; each field is an option of `iit-bench eval`, with its help text.

    The API key is not a field: it is read from the environment when a request is sent, and written nowhere.
    """

    base_url: str | None = field(default=None, metadata={"help": "Address of the server, e.g. http://localhost:8000/v1."})
    api_key_env: str = field(
        default="OPENAI_API_KEY", metadata={"help": "Environment variable that holds the server's key, if it needs one."}
    )
    tokenizer: str | None = field(
        default=None,
        metadata={"help": "The model's folder or Hub id: chats are then rendered and tokenised here, and the server only continues text."},
    )
    batch_api: bool = field(
        default=False,
        metadata={"help": "Send chats as files to the provider's batch API, which answers within a day at a lower price; resumable."},
    )
    concurrency: int = field(default=8, metadata={"help": "Requests in flight at once.", "least": 1})
    retries: int = field(default=6, metadata={"help": "Attempts after the first; the wait doubles from 0.5 s.", "least": 0})
    timeout: float = field(
        default=300.0, metadata={"help": "Seconds that one answer may take, from the connection to its last byte.", "above": 0}
    )
    price_in: float | None = field(default=None, metadata={"help": "Price per million prompt tokens, for the cost.", "least": 0})
    price_out: float | None = field(default=None, metadata={"help": "Price per million reply tokens.", "least": 0})
