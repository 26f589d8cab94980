"""For all tests: hypothesis judges answers, never how long a loaded machine took to find them."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
