"""``docs/client.md``: what `rocketmq_client` offers, from its own signatures and docstrings, so that page and code cannot part.

``python -m rocketmq_tools.client_page > docs/client.md``
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Final

import rocketmq_client
from rocketmq_client import blocking
from rocketmq_client.admin.brokers import Brokers
from rocketmq_client.admin.dead_letters import DeadLetters
from rocketmq_client.admin.groups import Groups
from rocketmq_client.admin.messages import Messages
from rocketmq_client.admin.topics import Topics

_INTRODUCTION: Final = """# The Python client

Made by `python -m rocketmq_tools.client_page` from the code; do not edit.

`rocketmq_client` is asyncio, typed and pure Python. It speaks the remoting protocol and works with Apache's brokers (4.9 and 5.x)
as with ours. Every class is an async context manager; without an address `$NAMESRV_ADDR` is used. All errors are `ClientError`s,
whose text says what happened and whose `hint` says what to try. `examples/python` has programs that run as they stand.

| for | see |
|---|---|
| sending, batches, order, delay | `Producer` |
| sending with the outcome of something else | `TransactionProducer` |
| receiving with a group, by listener or `async for` | `PushConsumer` |
| receiving when the application asks; reading without a group | `LitePullConsumer` |
| asking and being answered | `Requester`, `reply` |
| topics, groups, offsets, brokers, messages, dead letters | `Admin` |
| scripts and threads without asyncio | `rocketmq_client.blocking` |
| message trace in Apache's format | `Tracer` |
| OpenTelemetry spans and metrics | `rocketmq_client.otel`, extra `opentelemetry` |
| CloudEvents | `rocketmq_client.cloud_events`, extra `cloudevents` |
| tests of applications | fixtures `rocketmq`, `rocketmq_server`, `rocketmq_fake` of `rocketmq_tools.pytest_plugin` |
"""

_CLASSES: Final[tuple[type, ...]] = (
    rocketmq_client.Producer,
    rocketmq_client.Message,
    rocketmq_client.SendReceipt,
    rocketmq_client.TransactionProducer,
    rocketmq_client.PushConsumer,
    rocketmq_client.Delivery,
    rocketmq_client.MessageView,
    rocketmq_client.LitePullConsumer,
    rocketmq_client.Requester,
    rocketmq_client.Tracer,
    rocketmq_client.Admin,
    Topics,
    Groups,
    Brokers,
    Messages,
    DeadLetters,
)
_BLOCKING: Final = (
    blocking.Producer,
    blocking.TransactionProducer,
    blocking.PushConsumer,
    blocking.LitePullConsumer,
    blocking.Admin,
)


def page() -> str:
    """The whole page."""
    lines = [_INTRODUCTION]
    for kind in _CLASSES:
        lines += _class(kind)
    lines += ["## rocketmq_client.blocking", "", _text(blocking), ""]
    lines += [f"* `{kind.__name__}`: {', '.join(f'`{name}`' for name, _ in _members(kind))}" for kind in _BLOCKING]
    lines += ["", "## Errors", "", "| error | when |", "|---|---|"]
    for name in sorted(rocketmq_client.__all__):
        found = getattr(rocketmq_client, name)
        if inspect.isclass(found) and issubclass(found, Exception):
            lines.append(f"| `{name}` | {_text(found).splitlines()[0]} |")
    return "\n".join(lines) + "\n"


def _class(kind: type) -> Iterator[str]:
    yield f"## {kind.__name__}"
    yield ""
    yield _text(kind)
    yield ""
    for name, member in _members(kind):
        first = _text(member).split("\n\n")[0].replace("\n", " ")
        if inspect.isfunction(member):
            word = "await " if inspect.iscoroutinefunction(member) else ""
            yield f"* {word}`{name}{_parameters(member)}`: {first}"
        else:
            yield f"* `{name}`: {first}"
    yield ""


def _members(kind: type) -> Iterator[tuple[str, object]]:
    """Public methods and properties, those of its own first, without what Python made."""
    seen: set[str] = set()
    for owner in kind.__mro__[:-1]:
        for name, member in vars(owner).items():
            is_member = inspect.isfunction(member) or isinstance(member, property)
            is_shown = is_member and not name.startswith("_") and _text(member)
            # What only the client itself calls says so in its first words.
            if is_shown and name not in seen and not _text(member).startswith("See `ConsumerSide`"):
                yield name, member
            seen.add(name)


def _parameters(function: object) -> str:
    assert callable(function)
    signature = inspect.signature(function)
    return "(" + ", ".join(_parameter(p) for p in list(signature.parameters.values())[1:]) + ")"


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is inspect.Parameter.empty else f"={parameter.default!r}"
    star = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (parameter.kind is parameter.VAR_KEYWORD)
    return f"{star}{parameter.name}{default}"


def _text(subject: object) -> str:
    return inspect.getdoc(subject) or ""


if __name__ == "__main__":
    sys.stdout.write(page())
