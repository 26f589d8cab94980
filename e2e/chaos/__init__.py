"""Faults on purpose, with a judge: crash states, failing calls, bit flips, kills, power cuts, full disks, hostile replicas."""
