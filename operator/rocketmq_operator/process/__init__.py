"""The operator as a process: work queue, kopf as event source, leader gate, health and metrics, composition."""
