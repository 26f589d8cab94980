"""Annotations that the operator remembers an operation by, and annotations that people instruct it with."""

from __future__ import annotations

from rocketmq_operator.crd import GROUP

# On StatefulSets, milliseconds since the epoch: survive the operator, so that a successor goes on where it stood.
WRITES_CLOSED_AT = f"{GROUP}/writes-closed-at"
LIST_SHRUNK_AT = f"{GROUP}/namesrv-list-shrunk-at"
DRAIN_QUIET_SINCE = f"{GROUP}/drain-quiet-since"  # "<log end offset>@<ms>"
DRAIN_EMPTY_SINCE = f"{GROUP}/drain-empty-since"

# On clusters, by people.
ALLOW_WRITE_PAUSE = f"{GROUP}/allow-write-pause"  # "true": a roll may go below minInSyncReplicas for a moment
ABANDON = f"{GROUP}/abandon"  # "<group>=<messages left>": remove the group although so many messages are unconsumed
