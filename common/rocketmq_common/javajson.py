"""JSON as Java's fastjson reads and writes it.

Strict JSON is parsed by msgspec. What Java writes beyond it, and this module repairs before parsing again: integer map keys
without quotes (``{0:"addr"}``), and whole objects as keys (``{{"brokerName":"b","queueId":0,"topic":"t"}:5}``). The second form
is also *required* in some answers; no dictionary serializer produces it, hence `dumps_object_keyed`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

DEPTH_MAX = 64

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([{}\[\],:])|([^\s{}\[\],:"]+))', re.DOTALL)


class JavaJsonError(ValueError):
    """Text that is JSON neither to the standard nor to Java."""


class ObjectKey(tuple[tuple[str, Any], ...]):
    """An object that served as a map key: hashable, `as_dict` gives it back."""

    __slots__ = ()

    def as_dict(self) -> dict[str, Any]:
        """The key's fields."""
        return dict(self)


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """Parse ``data``; integer keys come out as strings, object keys as `ObjectKey`.

    Raises JavaJsonError with the position of the first thing that cannot be read.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    if not isinstance(data, str):
        try:
            data = str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise JavaJsonError(f"not UTF-8: {error}") from error
    return _LenientReader(data).document()


def dumps(value: Any) -> bytes:
    """Strict, compact JSON of plain values and msgspec structs."""
    return _encode(value)


def dumps_object_keyed(pairs: Iterable[tuple[Any, Any]]) -> bytes:
    """A map whose keys are objects, written bare as Java does: ``{{…}:value,{…}:value}``."""
    return b"{" + b",".join(_encode(key) + b":" + _encode(value) for key, value in pairs) + b"}"


class _LenientReader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def document(self) -> Any:
        value = self._value(self._next(), 0)
        if self._text[self._position :].strip():
            raise JavaJsonError(f"more text after the document at character {self._position}")
        return value

    def _next(self) -> str:
        match = _TOKEN.match(self._text, self._position)
        if match is None:
            raise JavaJsonError(f"unexpected end or character at {self._position}")
        self._position = match.end()
        return match.group().lstrip()

    def _value(self, token: str, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise JavaJsonError(f"nested deeper than {DEPTH_MAX} at character {self._position}")
        if token == "{":
            return self._object(depth + 1)
        if token == "[":
            return self._array(depth + 1)
        return self._scalar(token)

    def _scalar(self, token: str) -> Any:
        try:
            return _decode(token)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise JavaJsonError(f"{token[:40]!r} before character {self._position} is no JSON value") from error

    def _object(self, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        token = self._next()
        while token != "}":
            key: Any
            if token == "{":
                key = ObjectKey(sorted(self._value(token, depth).items()))
            elif token.startswith('"'):
                key = self._scalar(token)
            elif token.removeprefix("-").isdecimal():
                key = token
            else:
                raise JavaJsonError(f"{token[:40]!r} before character {self._position} cannot be a key")
            if self._next() != ":":
                raise JavaJsonError(f"':' expected before character {self._position}")
            result[key] = self._value(self._next(), depth)
            token = self._next()
            if token == ",":
                token = self._next()
            elif token != "}":
                raise JavaJsonError(f"',' or '}}' expected before character {self._position}")
        return result

    def _array(self, depth: int) -> list[Any]:
        result: list[Any] = []
        token = self._next()
        while token != "]":
            result.append(self._value(token, depth))
            token = self._next()
            if token == ",":
                token = self._next()
            elif token != "]":
                raise JavaJsonError(f"',' or ']' expected before character {self._position}")
        return result
