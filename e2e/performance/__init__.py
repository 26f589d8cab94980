"""Ours against Apache's broker in the same run on the same core; ``python -m e2e.performance --help``."""
