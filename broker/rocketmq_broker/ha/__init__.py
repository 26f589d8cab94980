"""Replication between the brokers of one group: log bytes, acknowledgements, metadata, over Apache's HA stream."""
