"""``rocketmq group diagnose``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rocketmq_tools.cli.names import complete_group
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note, with_admin
from rocketmq_tools.errors import ExitCode

if TYPE_CHECKING:
    from rocketmq_client import Admin
    from rocketmq_client.admin.diagnosis import Diagnosis


@click.command("diagnose", epilog="\b\nExample:\n  rocketmq group diagnose billing")
@click.argument("group", shell_complete=complete_group)
@namesrv_option
@output_option
@click.pass_obj
def command(settings: Globals, group: str) -> int:
    """Say why GROUP does not consume as it should; exit code 7 when messages are lost or delayed.

    Looks at members that subscribe differently, queues of nobody or of two members, listeners that hang, members without
    queues, dead letters, and offsets that nobody needs any more.
    """
    from rocketmq_client.admin.diagnosis import Severity

    async def work(admin: Admin) -> Diagnosis:
        return await admin.diagnose(group)

    diagnosis = with_admin(settings, work)
    findings, evidence = diagnosis.findings, diagnosis.evidence
    is_healthy = not any(finding.severity is Severity.PROBLEM for finding in findings)
    data = {
        "group": group,
        "healthy": is_healthy,
        "lag": evidence.progress.lag,
        "findings": [
            {"severity": f.severity.value, "check": f.check, "detail": f.detail, "remedy": f.remedy} for f in findings
        ],
        "members": [
            {
                "client_id": member.client_id,
                "subscriptions": dict(sorted(member.subscriptions.items())),
                "queues": [f"{q.topic} {q.broker_name}:{q.queue_id}" for q in sorted(member.queues)],
            }
            for member in evidence.members
        ],
        "silent_members": list(evidence.silent),
    }
    rows = [[f.severity.value, f.check, f.detail, f.remedy] for f in findings]
    show(settings, data, ("SEVERITY", "CHECK", "DETAIL", "TRY"), rows)
    if settings.output == "table":
        members = len(evidence.members) + len(evidence.silent)
        note(f"{group}: {members} members, {evidence.progress.lag} messages behind, {len(findings)} findings")
    return ExitCode.OK if is_healthy else ExitCode.UNHEALTHY
