"""Refusals equal those of Kubernetes 1.34's own validation, word for word.

``golden/refusals.json`` was recorded with ``api_server/main.go``, which uses the API server's packages (and refuses to record for
an invalid CRD). To add a case, append ``{"object": …, "old": …}`` and run it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rocketmq_operator.documents import InvalidDocuments, validate_object

CASES = json.loads((Path(__file__).parent / "golden" / "refusals.json").read_text(encoding="utf-8"))


def messages(case: dict[str, Any]) -> list[str]:
    try:
        old = validate_object(case["old"]).defaulted if "old" in case else None
        validate_object(case["object"], old)
    except InvalidDocuments as refused:
        (text,) = refused.problems
        detail = text.split(" is invalid: ", 1)[1]
        return detail.split("\n* ")[1:] if detail.startswith("\n* ") else [detail]
    return []


@pytest.mark.parametrize("case", CASES, ids=[(c["messages"] or ["valid"])[0][:60] for c in CASES])
def test_a_refusal_is_the_api_servers(case: dict[str, Any]) -> None:
    assert sorted(messages(case)) == sorted(case["messages"])


def test_the_recorded_cases_cover_every_rule_and_valid_objects() -> None:
    from rocketmq_operator.rules import RULES

    told = "\n".join(m for case in CASES for m in case["messages"])
    assert [rule.message for rule in RULES if rule.message not in told] == []
    assert any(not case["messages"] for case in CASES)
