"""Configuration files, environment and flags."""

from __future__ import annotations

from enum import Enum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_common.settings import (
    SettingsError,
    bind,
    environment_name,
    format_java_properties,
    from_environment,
    parse_assignments,
    parse_java_properties,
)


class Role(Enum):
    MASTER = "ASYNC_MASTER"
    SLAVE = "SLAVE"


class Example(msgspec.Struct, rename="camel", kw_only=True):
    listen_port: int = 10911
    auto_create_topic_enable: bool = True
    broker_ip1: str | None = msgspec.field(name="brokerIP1", default=None)
    broker_role: Role = Role.MASTER


def test_java_properties_in_all_their_spellings() -> None:
    text = "# c\n! c\na=1\nb : 2\n c\t3\nlong=x\\\n   y\nspaces=  v \nu=\\u0041\\n\\:\nempty=\n\nbare"
    assert parse_java_properties(text) == {
        "a": "1", "b": "2", "c": "3", "long": "xy", "spaces": "v ", "u": "A\n:", "empty": "", "bare": "",
    }  # fmt: skip


@given(st.dictionaries(st.text("abcXYZ.", min_size=1, max_size=8), st.text("ab \\\n\t=:#!é", max_size=12)))
def test_properties_survive_a_round_trip(values: dict[str, str]) -> None:
    assert parse_java_properties(format_java_properties(values)) == values


def test_values_get_their_types_and_unknown_keys_are_reported() -> None:
    settings, unknown = bind(
        Example, {"listenPort": " 9999 ", "autoCreateTopicEnable": "false", "brokerRole": "SLAVE", "futureKey": "1"}
    )
    assert settings == Example(listen_port=9999, auto_create_topic_enable=False, broker_role=Role.SLAVE)
    assert unknown == ["futureKey"]


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("listenPort", "many", "write a whole number"),
        ("autoCreateTopicEnable", "perhaps", "write true or false"),
        ("brokerRole", "KING", "write one of ASYNC_MASTER, SLAVE"),
    ],
)
def test_a_bad_value_names_file_key_value_and_remedy(key: str, value: str, hint: str) -> None:
    with pytest.raises(SettingsError) as error:
        bind(Example, {key: value}, source="broker.conf")
    for part in ("broker.conf", key, value, hint):
        assert part in str(error.value)


def test_environment_names() -> None:
    assert environment_name("brokerIP1") == "ROCKETMQ_BROKER_IP1"
    assert environment_name("listenPort") == "ROCKETMQ_LISTEN_PORT"
    assert environment_name("storePathRootDir") == "ROCKETMQ_STORE_PATH_ROOT_DIR"
    assert from_environment({"ROCKETMQ_BROKER_IP1": "1.2.3.4", "OTHER": "x"}, Example) == {"brokerIP1": "1.2.3.4"}


def test_assignments_need_an_equals_sign() -> None:
    assert parse_assignments(["a=b=c"]) == {"a": "b=c"}
    with pytest.raises(SettingsError, match="key=value"):
        parse_assignments(["a"])
