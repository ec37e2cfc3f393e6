"""Runs a chat template of strangers in a process of its own, so that one that never ends, or takes all memory, ends that process only.

Run as a file, with a JSON object on standard input: `template`, `arguments` (special tokens by name), `chats`, `question` (a text that
stands in each chat), `seconds`, `bytes`, `characters`. Prints a JSON object: `wrong`, why the template cannot be used, "" if nothing is;
`written`, whether any chat was rendered.

The environment has what transformers gives a template. Only time, memory and length are measured in it: what a model reads is always
rendered by transformers itself.
"""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

REFUSED = "refused"  # in place of a chat's text: the template raised an error on purpose


class Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`, which marks replies and writes what is in it."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        """The statements between the tags."""
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """A sandbox with the functions that chat templates may call."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, **settings: Any) -> str:
        return json.dumps(value, **({"ensure_ascii": False} | settings))

    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda pattern: datetime.datetime.now().strftime(pattern)
    return made


def limit(seconds: int, size: int) -> None:
    """Bound the time and memory of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: who started this process ends it
        return
    for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, size)):
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # macOS knows no limit of addresses; a stricter limit holds already
            continue


def judge(asked: dict[str, Any]) -> dict[str, Any]:
    """Render all chats. Errors that a template raises on purpose are answers about a chat, not faults of the template."""
    failed: list[str] = []
    texts: list[str] = []
    faults = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
    try:
        template = environment().from_string(asked["template"])
        for chat in asked["chats"]:
            size = 0
            pieces = []
            try:
                for piece in template.generate(messages=chat, add_generation_prompt=True, **asked["arguments"]):
                    size += len(piece)
                    if size > asked["characters"]:
                        return {"wrong": f"writes more than {asked['characters']} characters for a short chat", "written": True}
                    pieces.append(piece)
                texts.append("".join(pieces))
            except jinja2.TemplateSyntaxError:
                raise
            except jinja2.TemplateError:
                texts.append(REFUSED)
            except faults as error:
                failed.append(f"fails with {type(error).__name__} ({' '.join(str(error).split())[:200]})")
    except jinja2.TemplateSyntaxError as error:
        return {"wrong": f"is no valid template ({error.message}, line {error.lineno})", "written": False}
    except SyntaxError as error:  # of the Python that jinja makes of it: a break outside of a loop
        return {"wrong": f"is no valid template ({error.msg})", "written": False}
    except MemoryError:
        return {"wrong": "takes too much memory", "written": False}
    except faults as error:  # while it is compiled
        failed.append(f"fails with {type(error).__name__} ({' '.join(str(error).split())[:200]})")
    if not texts:
        return {"wrong": failed[0], "written": False}
    if not any(text.strip() for text in texts):
        return {"wrong": "writes nothing", "written": True}
    read = [text for text in texts if text is not REFUSED]
    asks = not read or any(asked["question"].casefold() in text.casefold() for text in read)
    return {"wrong": "" if asks else "leaves out what is asked", "written": True}


if __name__ == "__main__":
    request = json.loads(sys.stdin.buffer.read())
    limit(request["seconds"], request["bytes"])
    sys.stdout.write(json.dumps(judge(request)))
