"""Transactions: half messages, their end (commit or rollback), and the questions to producers that did not say how they ended."""
