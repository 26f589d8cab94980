"""Ask both sides and sort the answers: the same, different for a reason that stands here, or different without one.

Differences that are meant:

* limits: Apache's parser reads an expression of any length, until its stack ends; ours refuses what is longer, deeper or names more
  than the constants in `rocketmq_broker.filters.parsing` say, because each of its parts is evaluated for every message.
* long numbers: Apache reads a property of any length as a number; ours takes one above `NUMBER_SIZE_MAX` characters for an error.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from e2e import toolchain
from e2e.peers.filter_differential.generation import Question
from rocketmq_broker.filters.errors import EvaluationError, ExpressionError, ExpressionLimitError
from rocketmq_broker.filters.expressions import Expression
from rocketmq_broker.filters.java_numbers import NUMBER_SIZE_MAX

JUDGE_TIMEOUT_SECONDS = 300
EXAMPLES_MAX = 50
REFUSED = "refused"
_LETTERS = {True: "T", False: "F", None: "N"}


@dataclass(slots=True)
class Report:
    """What a run saw. ``verdicts`` counts Apache's; ``meant`` counts differences by reason; ``unexplained`` must stay empty."""

    pair_count: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    meant: Counter[str] = field(default_factory=Counter)
    unexplained: list[dict[str, Any]] = field(default_factory=list)


def ask_apache(questions: Iterable[Question]) -> list[dict[str, str]]:
    """The answers of Apache's classes, one for each question: ``verdicts``, a letter for each map, or ``error``."""
    peer = toolchain.filter_judge()
    lines = "".join(json.dumps(question._asdict()) + "\n" for question in questions)
    command = [toolchain.tool("java"), "-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-cp", peer.classpath, "FilterJudge"]
    done = subprocess.run(
        command, input=lines.encode(), capture_output=True, timeout=JUDGE_TIMEOUT_SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"FilterJudge ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def our_verdict(expression: Expression, properties: Mapping[str, str]) -> str:
    """Our letter for one map."""
    try:
        return _LETTERS[expression.evaluate(properties)]
    except EvaluationError:
        return "E"


def compare(questions: list[Question], answers: list[dict[str, str]]) -> Report:
    """Evaluate each question with our filters and hold the result against Apache's answer."""
    report = Report()
    for question, answer in zip(questions, answers, strict=True):
        maps = question.properties
        report.pair_count += len(maps)
        theirs: list[str] = list(answer["verdicts"]) if "verdicts" in answer else [REFUSED] * len(maps)
        report.verdicts.update(theirs)
        reason = ""
        try:
            expression = Expression(question.expression)
            ours = [our_verdict(expression, properties) for properties in maps]
        except ExpressionLimitError as error:
            ours, reason = [REFUSED] * len(maps), str(error)
            if theirs != ours:
                report.meant["limits"] += len(maps)
                continue
        except ExpressionError as error:
            ours, reason = [REFUSED] * len(maps), str(error)
        for properties, apache_verdict, verdict in zip(maps, theirs, ours, strict=True):
            if apache_verdict == verdict:
                continue
            if verdict == "E" and any(len(value) > NUMBER_SIZE_MAX for value in properties.values()):
                report.meant["long numbers"] += 1
            elif len(report.unexplained) < EXAMPLES_MAX:
                report.unexplained.append(
                    {
                        "expression": question.expression,
                        "properties": {name: properties[name] for name in properties if name in question.expression},
                        "apache": answer.get("error", apache_verdict),
                        "ours": reason or verdict,
                    }
                )
    return report
