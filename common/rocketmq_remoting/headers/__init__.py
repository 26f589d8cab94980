"""Typed contents of command headers, one module per family. Field names are ours, wire names are Java's.

A required field has no default. Fields are optional exactly where Apache's clients leave them out.
"""
