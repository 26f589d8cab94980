"""The message store: commit log, consume queues, index and their recovery, byte-compatible with Apache RocketMQ 5."""
