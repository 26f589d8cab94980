"""Fakes with behaviour, for tests of this project and of applications built on its client."""
