"""What can be wrong with a filter: its text, or the properties of one message."""

from __future__ import annotations


class ExpressionError(ValueError):
    """A filter expression that cannot be understood. ``position`` is the character, counted from 1, where reading failed."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class ExpressionLimitError(ExpressionError):
    """An expression that is understood but larger than a broker evaluates for every message."""


class EvaluationError(Exception):
    """A message whose properties cannot be compared as the expression asks, such as letters with a number.

    Apache's broker takes such a message as not matched; so does `Expression.matches`. A stream that does not fit raises one per
    message, so the text is built only when somebody reads it.
    """

    def __init__(self, text: str, wanted: str) -> None:
        super().__init__(text, wanted)

    def __str__(self) -> str:
        text, wanted = self.args
        return f"{text!r} is no {wanted}"
