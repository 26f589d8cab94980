"""The Java of docs/messages compiles as it stands, runs, and prints what it promises."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import toolchain
from e2e.clusters import TEST_BROKER_SETTINGS, Cluster, Kind
from e2e.conftest import tools

pytestmark = [pytest.mark.peers, pytest.mark.timeout(240)]
RUN_TIMEOUT_SECONDS = 150
PRINTS = {
    "timer": ["recalled "],
    "transactions": ["COMMIT_MESSAGE"],
    "ordered": ["created in order", "paid in order", "shipped in order"],
    "filters": ["sold for 30"],
    "pop": ["done: 1"],
    "request-reply": ["because"],
    "light-queues": ["carol has 1"],
}


@pytest.fixture(scope="module")
def page_cluster(peer_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker that allows everything that the pages show."""
    settings = TEST_BROKER_SETTINGS | {
        "enableLmq": "true",
        "enableMultiDispatch": "true",
        "enablePropertyFilter": "true",
        "recallMessageEnable": "true",
        "defaultMessageRequestMode": "POP",
    }
    with Cluster(peer_kind, tmp_path_factory.mktemp("pages") / "shared", settings=settings) as running:
        yield running


def program(page: str, code: str, namesrv_address: str) -> str:
    """The statements of a page as a program."""
    imports = "\n".join(re.findall(r"^import .*;$", code, re.MULTILINE))
    body = re.sub(r"^import .*;\n", "", code, flags=re.MULTILINE).replace("127.0.0.1:9876", namesrv_address)
    head = f"public final class {name_of(page)} {{\n  public static void main(String[] arguments) throws Exception {{\n"
    return f"{imports}\n{head}{body}\n    System.exit(0);\n  }}\n}}\n"


def name_of(page: str) -> str:
    return "Page" + page.replace("-", "").capitalize()


@pytest.fixture(scope="module")
def programs(page_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled programs of all pages."""
    with tools():
        compiler, classpath = toolchain.tool("javac"), toolchain.apache().classpath
    directory = tmp_path_factory.mktemp("programs")
    sources = []
    for page in PRINTS:
        text = (toolchain.E2E.parent / "docs" / "messages" / f"{page}.md").read_text()
        (code,) = re.findall(r"```java\n(.*?)```", text, re.DOTALL)
        source = directory / f"{name_of(page)}.java"
        source.write_text(program(page, code, page_cluster.namesrv_address))
        sources.append(str(source))
    command = [compiler, "-nowarn", "-Xlint:none", "-d", str(directory), "-cp", classpath, *sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.mark.parametrize("page", PRINTS)
def test_the_java_of_a_page_prints_what_it_promises(page: str, programs: Path, tmp_path: Path) -> None:
    command = [
        toolchain.tool("java"), *toolchain.JAVA_OPEN_OPTIONS, "-Xmx128m", "-XX:+UseSerialGC", f"-Duser.home={tmp_path}",
        "-cp", f"{programs}:{toolchain.apache().classpath}", name_of(page),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = [line for line in done.stdout.splitlines() if any(line.startswith(word) for word in PRINTS[page])]
    assert len(printed) == len(PRINTS[page]), done.stdout
