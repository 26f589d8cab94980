"""The page on the protocol says what the tables say."""

from __future__ import annotations

from pathlib import Path

from rocketmq_tools.protocol_page import page

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"


def test_the_page_lists_exactly_the_tables() -> None:
    assert PAGE.read_text() == page(), "run: python -m rocketmq_tools.protocol_page > docs/protocol.md"
