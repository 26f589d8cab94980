"""Version numbers on the wire: ordinals of Java's ``MQVersion.Version``."""

from __future__ import annotations

V3_4_9 = 121
V4_0_0 = 213
V4_9_3 = 399
V4_9_4 = 401
V5_0_0 = 413
V5_5_0 = 513
HIGHER_VERSION = 612

# What this project claims to be: the release whose clients and tools it is tested with.
CURRENT = V5_5_0


def version_name(ordinal: int) -> str:
    """The name that Java prints, for example ``V5_5_0``; before 4.0.0 only the number is known."""
    if ordinal >= HIGHER_VERSION:
        return "HIGHER_VERSION"
    if ordinal < V4_0_0 - 1:
        return f"VERSION_{ordinal}"
    steps = ordinal - V4_0_0
    snapshot = steps % 2 == 1
    release = (steps + 1) // 2 if snapshot else steps // 2
    major, rest = divmod(release, 100)
    minor, patch = divmod(rest, 10)
    return f"V{4 + major}_{minor}_{patch}{'_SNAPSHOT' if snapshot else ''}"
