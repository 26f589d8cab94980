"""The `rocketmq` command, the embedded runtime and the demonstration."""
