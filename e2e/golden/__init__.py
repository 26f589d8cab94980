"""Bytes and stores recorded from the classes and processes of Apache RocketMQ."""
