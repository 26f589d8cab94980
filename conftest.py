"""For all tests: hypothesis judges answers, not how long a loaded machine took to find them; CI tries the same cases each time."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("patient", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("patient")
