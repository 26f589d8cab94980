"""The Python of docs/messages runs as it stands and prints what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocketmq_tools.testing import LocalServer

DIRECTORY = Path(__file__).parents[3] / "docs" / "messages"
PRINTS = {
    "timer.md": "by time\nby level\n",
    "transactions.md": "['7']\n",
    "ordered.md": "['created', 'paid', 'shipped']\n",
    "filters.md": "sold for 30\n",
    "pop.md": "['job 0', 'job 1', 'job 2']\n",
    "request-reply.md": "WHY\n",
    "light-queues.md": "['to both', 'to alice']\n",
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A broker that allows everything that the pages show."""
    settings = {"enableLmq": "true", "enableMultiDispatch": "true", "recallMessageEnable": "true"}
    with LocalServer(settings) as running:
        yield running


def test_every_page_is_tried_and_listed() -> None:
    pages = {path.name for path in DIRECTORY.glob("*.md")} - {"README.md"}
    assert pages == PRINTS.keys()
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", (DIRECTORY / "README.md").read_text()))
    assert listed == pages


@pytest.mark.parametrize("page", PRINTS)
def test_the_python_of_a_page_prints_what_it_promises(page: str, server: LocalServer) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DIRECTORY / page).read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NAMESRV_ADDR": server.name_server},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Messages of different queues have no order among each other.
    assert sorted(done.stdout.splitlines()) == sorted(PRINTS[page].splitlines())
