"""Addresses for clients elsewhere: which of a group's are this broker's, and what is no address."""

from __future__ import annotations

import pytest

from rocketmq_broker.listeners import advertised, check
from rocketmq_common.settings import SettingsError

GROUP = "b0-0.mq.svc/outside=:30111;b0-1.mq.svc/outside=:30112;b0-0.mq.svc/lb=b0-0.example.org:10911;any=10.0.0.9:1"


def test_a_broker_takes_its_own_entries_and_those_for_everybody() -> None:
    assert (
        advertised(GROUP, "b0-0.mq.svc", "172.18.0.3")
        == "outside=172.18.0.3:30111;lb=b0-0.example.org:10911;any=10.0.0.9:1"
    )
    assert advertised(GROUP, "b0-1.mq.svc", "172.18.0.4") == "outside=172.18.0.4:30112;any=10.0.0.9:1"


def test_an_entry_without_any_host_is_left_out() -> None:
    assert advertised(GROUP, "b0-1.mq.svc", "") == "any=10.0.0.9:1"
    assert advertised("", "b0-1.mq.svc", "172.18.0.4") == ""


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert advertised("outside=[fd00::1]:30111", "", "") == "outside=[fd00::1]:30111"


@pytest.mark.parametrize(
    "text", ["outside", "outside=host", "Outside=host:1", "outside=host:70000", "outside=a:b:1", "=h:1"]
)
def test_another_form_is_refused_with_the_form_that_is_right(text: str) -> None:
    with pytest.raises(SettingsError, match=r"write \[brokerIP1/\]listener=\[host\]:port"):
        check(text)
