"""What the commands of the embedded mode share: choosing a cluster and showing its processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rocketmq_tools.errors import CommandError, ExitCode

F = TypeVar("F", bound=Callable[..., Any] | click.Command)


def choice_options(function: F) -> F:
    """``--cluster NAME``, ``-f/--file FILE`` and ``--data DIR``: three ways to say which cluster."""
    return _choice_options(function, "-f", "--file")


def choice_options_without_f(function: F) -> F:
    """`choice_options` for a command whose ``-f`` means something else."""
    return _choice_options(function, "--file")


def _choice_options(function: F, *file_names: str) -> F:
    directory = click.Path(file_okay=False, path_type=Path)
    function = click.option("--data", type=directory, help="The directory given to `up --data`.")(function)
    help_text = "The document that it was started from; - is standard input."
    function = click.option(*file_names, "source", metavar="FILE", help=help_text)(function)
    return click.option("--cluster", "cluster_name", metavar="NAME", help="The cluster's name.")(function)


def chosen(cluster_name: str | None, source: str | None, data: Path | None) -> Any:
    """The `ClusterDirectory` that the options of `choice_options` name."""
    from rocketmq_tools.embedded import clusters

    namespace = None
    if source is not None:
        document = read_document(source, cluster_name)
        cluster_name, namespace = document.name, document.namespace
    return clusters.find(data=data, name=cluster_name, namespace=namespace)


def read_document(source: str, cluster_name: str | None = None) -> Any:
    """The one `RocketMQCluster` in a file, or the one named. Raises CommandError with what an API server would say."""
    from rocketmq_operator.documents import InvalidDocuments, parse_documents

    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CommandError(f"cannot read {source}: {reason}") from error
    try:
        documents = parse_documents(text, source)
    except InvalidDocuments as invalid:
        raise CommandError(
            invalid.problems[0],
            details="\n".join(invalid.problems[1:]),
            remedy=f"correct {source}; nothing was changed",
        ) from invalid
    found = [d.cluster for d in documents if cluster_name in (None, d.cluster.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(d.cluster.name for d in documents)
    if not found:
        raise CommandError(f"{source} has no cluster {cluster_name}, only {names}", exit_code=ExitCode.NOT_FOUND)
    raise CommandError(
        f"{source} holds {len(found)} clusters: {names}",
        remedy="choose one with --cluster NAME",
        exit_code=ExitCode.USAGE,
    )


COLUMNS = ("NAME", "ROLE", "ADDRESS", "HTTP", "PID", "READY", "RESTARTS", "DATA")


def process_rows(view: dict[str, Any]) -> list[list[Any]]:
    """Rows of `COLUMNS` from the public view of a cluster."""
    return [
        [
            process["name"],
            _role(process),
            process["address"],
            process["addresses"].get("http"),
            process["pid"],
            process["ready"],
            process["restarts"],
            process["dataDirectory"],
        ]
        for process in view["processes"]
    ]


def _role(process: dict[str, Any]) -> str:
    if process["role"] == "namesrv":
        return "name server"
    return "slave" if process["brokerRole"] == "SLAVE" else "master"
