"""docs/client.md comes whole from the code."""

from __future__ import annotations

import rocketmq_client
from rocketmq_tools.client_page import page


def test_every_error_and_every_part_of_administration_is_on_the_page() -> None:
    text = page()
    for name in rocketmq_client.__all__:
        found = getattr(rocketmq_client, name)
        if isinstance(found, type) and issubclass(found, Exception):
            assert f"| `{name}` | {(found.__doc__ or '').splitlines()[0]}" in text
    for heading in ("Producer", "PushConsumer", "Admin", "Topics", "Groups", "Brokers", "Messages", "DeadLetters"):
        assert f"## {heading}\n" in text
    assert "await `send(topic" in text
