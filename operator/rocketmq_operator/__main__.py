"""``python -m rocketmq_operator``: run the operator until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from rocketmq_operator.admin.remoting import RemotingBrokers
from rocketmq_operator.kube.client import connect
from rocketmq_operator.process.app import Operator
from rocketmq_operator.process.settings import OperatorSettings, parse
from rocketmq_remoting.client import RemotingClient


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 orderly, 1 failed, 2 usage."""
    try:
        settings = parse(sys.argv[1:] if argv is None else argv)
    except SystemExit as error:
        return int(error.code or 0)
    logging.basicConfig(
        level=settings.log_level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )
    logging.getLogger("kopf").setLevel(max(logging.INFO, logging.getLogger().level))
    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = settings.kubeconfig  # kopf looks there
    failure = asyncio.run(_run(settings))
    if failure:
        print(f"rocketmq operator: {failure}", file=sys.stderr)
    return 1 if failure else 0


async def _run(settings: OperatorSettings) -> str:
    from kubernetes.aio.config import ConfigException

    try:
        api = await connect(settings.kubeconfig)
    except ConfigException as error:
        return f"no way to the API server: {error}"
    client = RemotingClient()
    try:
        operator = Operator(settings, api, RemotingBrokers(client))
        try:
            await operator.run()
        except OSError as error:
            return f"cannot listen on {settings.http_host}:{settings.http_port}: {error}"
        return operator.failure
    finally:
        await client.close()
        await api.close()


if __name__ == "__main__":
    sys.exit(main())
