"""Our SQL92 filters and Apache's give the same verdicts; ``ROCKETMQ_FILTER_PAIRS`` and ``ROCKETMQ_FILTER_SEED`` choose the run."""

from __future__ import annotations

import os

import pytest

from e2e.conftest import tools
from e2e.peers.filter_differential.comparison import REFUSED, Report, ask_apache, compare
from e2e.peers.filter_differential.generation import Question, questions
from rocketmq_broker.filters.tests.test_expressions import PROPERTIES, VERDICTS

PAIRS = int(os.environ.get("ROCKETMQ_FILTER_PAIRS") or 20_000)
SEED = int(os.environ.get("ROCKETMQ_FILTER_SEED") or 92)

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return list(questions(SEED, PAIRS))


@pytest.fixture(scope="module")
def answers(asked: list[Question]) -> list[dict[str, str]]:
    with tools():
        return ask_apache(asked)


@pytest.fixture(scope="module")
def report(asked: list[Question], answers: list[dict[str, str]]) -> Report:
    return compare(asked, answers)


def test_every_verdict_equals_apaches_or_differs_for_a_listed_reason(report: Report) -> None:
    assert report.pair_count == PAIRS
    assert not report.unexplained, f"seed {SEED}"


def test_the_questions_reach_every_kind_of_verdict(report: Report) -> None:
    """Otherwise equality would prove little."""
    for verdict in ("T", "F", "N", "E", REFUSED):
        assert report.verdicts[verdict] > PAIRS * 0.04, report.verdicts


def test_meant_differences_stay_rare(report: Report) -> None:
    assert sum(report.meant.values()) < PAIRS * 0.01, report.meant


def test_a_wrong_verdict_is_found(asked: list[Question], answers: list[dict[str, str]]) -> None:
    index = next(number for number, answer in enumerate(answers) if "T" in answer.get("verdicts", ""))
    wrong = {"verdicts": answers[index]["verdicts"].replace("T", "F", 1)}
    assert len(compare([asked[index]], [wrong]).unexplained) == 1
    assert not compare([asked[index]], [answers[index]]).unexplained


def test_the_table_of_verdicts_in_the_unit_tests_holds_in_apaches_classes() -> None:
    with tools():
        answers = ask_apache([Question(text, [PROPERTIES]) for text, _ in VERDICTS])
    letters = {True: "T", False: "F", None: "N"}
    expected = {text: letters.get(verdict, "E") for text, verdict in VERDICTS}  # type: ignore[call-overload]
    assert {
        text: answer.get("verdicts", REFUSED) for (text, _), answer in zip(VERDICTS, answers, strict=True)
    } == expected
