"""SQL92 filters against Apache's own filter classes: the same expressions and properties must get the same verdict.

``python -m e2e.peers.filter_differential --pairs 100000`` compares that many pairs and prints what it saw.
"""
