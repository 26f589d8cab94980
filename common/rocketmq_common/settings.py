"""Configuration: Java properties files bound to a typed struct, with environment and flags on top.

Keys are the struct's camelCase wire names, so an existing ``broker.conf`` works. Precedence, lowest first: defaults, file,
environment (``listenPort`` is ``ROCKETMQ_LISTEN_PORT``), flags (``--set listenPort=…``). Unknown keys are returned, not refused:
Apache ignores them and a shared file may hold another version's keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

ENVIRONMENT_PREFIX = "ROCKETMQ_"

T = TypeVar("T", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A configuration value that cannot be used; the message names key, value and remedy."""


def parse_java_properties(text: str) -> dict[str, str]:
    """Parse Java's properties syntax: ``key=value``, ``key:value``, comments, continuation lines, escapes."""
    result: dict[str, str] = {}
    for line in _logical_lines(text):
        key, value = _split_pair(line)
        if key:
            result[_unescape(key)] = _unescape(value)
    return result


def format_java_properties(values: Mapping[str, object]) -> str:
    """Write ``values`` as ``key=value`` lines that Java and `parse_java_properties` read back."""
    lines = []
    for key, value in values.items():
        text = format_value(value)
        escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
        if escaped.startswith(" "):
            escaped = "\\" + escaped
        lines.append(f"{key}={escaped}\n")
    return "".join(lines)


def format_value(value: object) -> str:
    """A value in the spelling of Java: ``true``/``false``, plain numbers."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def environment_name(key: str) -> str:
    """The environment variable of a key: ``brokerIP1`` is ``ROCKETMQ_BROKER_IP1``."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return ENVIRONMENT_PREFIX + re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", "_", snake).upper()


def wire_names(struct_type: type[msgspec.Struct]) -> dict[str, str]:
    """Key in files and on the wire → attribute name."""
    return dict(zip(struct_type.__struct_encode_fields__, struct_type.__struct_fields__, strict=True))


def from_environment(environment: Mapping[str, str], *struct_types: type[msgspec.Struct]) -> dict[str, str]:
    """The keys of ``struct_types`` that ``environment`` sets."""
    return {
        key: environment[name]
        for struct_type in struct_types
        for key in wire_names(struct_type)
        if (name := environment_name(key)) in environment
    }


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """``key=value`` flags; raises SettingsError naming the one that has no ``=``."""
    result = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key.strip():
            raise SettingsError(f"--set {assignment!r}: write it as key=value")
        result[key.strip()] = value
    return result


def bind(struct_type: type[T], values: Mapping[str, str], *, source: str = "configuration") -> tuple[T, list[str]]:
    """Make a ``struct_type`` of text ``values``; also return the keys it does not know.

    Raises SettingsError naming key, value, expected type and source.
    """
    names = wire_names(struct_type)
    hints = get_type_hints(struct_type, include_extras=True)
    typed: dict[str, Any] = {}
    unknown: list[str] = []
    for key, text in values.items():
        attribute = names.get(key)
        if attribute is None:
            unknown.append(key)
        else:
            typed[attribute] = convert_value(key, text, hints[attribute], source=source)
    return struct_type(**typed), unknown


def convert_value(key: str, text: str, hint: Any, *, source: str = "configuration") -> Any:
    """One value from its text form; raises SettingsError as `bind` does."""
    value = text.strip()
    try:
        return msgspec.convert(value, hint, strict=False, str_keys=True)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {key}={value!r}: {_expectation(hint)} ({error})") from error


def _expectation(hint: Any) -> str:
    arguments = [a for a in get_args(hint) if a is not type(None)]
    base = arguments[0] if arguments and isinstance(arguments[0], type) else hint
    if base is bool:
        return "write true or false"
    if base is int:
        return "write a whole number"
    if base is float:
        return "write a number"
    values = [member.value for member in base] if isinstance(base, type) and issubclass(base, Enum) else []
    return f"write one of {', '.join(map(str, values))}" if values else "the value cannot be used"


def _logical_lines(text: str) -> list[str]:
    lines: list[str] = []
    pending = ""
    for raw in text.splitlines():
        line = raw.lstrip(" \t\f")
        if not pending and (not line or line[0] in "#!"):
            continue
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            pending += line[:-1]
            continue
        lines.append(pending + line)
        pending = ""
    if pending:
        lines.append(pending)
    return lines


def _split_pair(line: str) -> tuple[str, str]:
    escaped = False
    for index, character in enumerate(line):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "=:":
            return line[:index], line[index + 1 :].lstrip(" \t\f")
        elif character in " \t\f":
            rest = line[index:].lstrip(" \t\f")
            return line[:index], rest[1:].lstrip(" \t\f") if rest[:1] in ("=", ":") else rest
    return line, ""


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        escape = match.group(1)
        if len(escape) == 5:
            return chr(int(escape[1:], 16))
        return _ESCAPES.get(escape, escape)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", replace, text, flags=re.DOTALL)
