"""Tests on real processes: ours, Apache's, and other clients; golden vectors; performance."""
