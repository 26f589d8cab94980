"""Asking and telling brokers and name servers, by the requests that RocketMQ's own tools use."""
