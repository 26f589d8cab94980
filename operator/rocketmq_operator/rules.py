"""The CRD's CEL rules as Python predicates.

The API server evaluates the CEL text; without one these run instead. A test evaluates both on generated objects and compares the
lists of paths and messages, so neither can change alone. Rules see defaulted, schema-valid values; a transition rule runs only
when there is an old value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rocketmq_operator.crd import schema_at
from rocketmq_operator.quantities import parse_quantity

OWNED_NAMESRV_KEYS = (
    "bindAddress",
    "configStorePath",
    "httpBindAddress",
    "httpPort",
    "kvConfigPath",
    "listenPort",
    "listeners",
)
OWNED_BROKER_KEYS = (
    "bindAddress",
    "brokerClusterName",
    "brokerIP1",
    "brokerIP2",
    "brokerId",
    "brokerName",
    "brokerRole",
    "enableAutoInSyncReplicas",
    "enableControllerMode",
    "enableDLegerCommitLog",
    "failoverDelay",
    "failoverMode",
    "fetchNameSrvAddrByDnsLookup",
    "fetchNamesrvAddrByAddressServer",
    "flushDiskType",
    "haAuthenticationRequired",
    "haListenPort",
    "haMasterAddress",
    "haSecretFile",
    "httpBindAddress",
    "httpPort",
    "inSyncReplicas",
    "leaseDirectory",
    "leaseDuration",
    "leaseNamespace",
    "leaseRenewDeadline",
    "leaseRetryPeriod",
    "listenPort",
    "listenerAddresses",
    "listenerHost",
    "minInSyncReplicas",
    "namesrvAddr",
    "onApiServerLoss",
    "replicaName",
    "replicaUid",
    "storePathCommitLog",
    "storePathRootDir",
    "totalReplicas",
)

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*")
NAME_LENGTH_MAX = 30


class Rule(NamedTuple):
    """One rule: where it stands, what it says, and whether ``(self, oldSelf)`` obeys it."""

    path: tuple[str, ...]
    message: str
    holds: Callable[[Any, Any], bool]
    transition: bool = False


def _name_fits(root: Any, _old: Any) -> bool:
    name = root["metadata"]["name"]
    return len(name) <= NAME_LENGTH_MAX and _NAME.fullmatch(name) is not None


def _listeners_fit(listeners: Any, _old: Any) -> bool:
    taken = [9876, 9877, *(one["port"] for one in listeners)]
    return len(set(taken)) == len(taken) and all(one["name"] != "headless" for one in listeners)


def _keys_are_plain(config: Any, _old: Any) -> bool:
    return all(_KEY.fullmatch(key) for key in config)


def _owned_message(keys: tuple[str, ...]) -> str:
    return f"the operator owns these keys, remove them: {', '.join(keys)}"


_BROKERS = ("spec", "brokers")
_STORAGE = (*_BROKERS, "storage")
_PLAIN_KEYS_MESSAGE = "keys must be letters and digits and start with a letter"

RULES: tuple[Rule, ...] = (
    Rule(
        (),
        f"metadata.name must be a DNS label of at most {NAME_LENGTH_MAX} characters that starts with a letter, because "
        "the names of Services and Pods are built from it",
        _name_fits,
    ),
    Rule(
        ("spec", "listeners"),
        "ports must differ from each other, from 9876 and from 9877; headless is no name",
        _listeners_fit,
    ),
    Rule(("spec", "nameServers", "config"), _PLAIN_KEYS_MESSAGE, _keys_are_plain),
    Rule(
        ("spec", "nameServers", "config"),
        _owned_message(OWNED_NAMESRV_KEYS),
        lambda config, _old: not any(key in OWNED_NAMESRV_KEYS for key in config),
    ),
    Rule(
        _BROKERS,
        "minInSyncReplicas must not exceed replicasPerGroup",
        lambda brokers, _old: brokers["minInSyncReplicas"] <= brokers["replicasPerGroup"],
    ),
    Rule((*_BROKERS, "config"), _PLAIN_KEYS_MESSAGE, _keys_are_plain),
    Rule(
        (*_BROKERS, "config"),
        _owned_message(OWNED_BROKER_KEYS),
        lambda config, _old: not any(key in OWNED_BROKER_KEYS for key in config),
    ),
    Rule(
        (*_BROKERS, "failover"),
        "leaseDurationSeconds must be greater than renewDeadlineSeconds",
        lambda failover, _old: failover["leaseDurationSeconds"] > failover["renewDeadlineSeconds"],
    ),
    Rule(
        (*_BROKERS, "failover"),
        "renewDeadlineSeconds must be greater than retryPeriodSeconds",
        lambda failover, _old: failover["renewDeadlineSeconds"] > failover["retryPeriodSeconds"],
    ),
    Rule(
        _STORAGE,
        "type EmptyDir loses all messages with the Pod; set allowDataLoss to true to accept that",
        lambda storage, _old: storage["type"] != "EmptyDir" or storage["allowDataLoss"],
    ),
    Rule(_STORAGE, "type is immutable", lambda storage, old: storage["type"] == old["type"], transition=True),
    Rule(
        _STORAGE,
        "storageClassName is immutable",
        lambda storage, old: storage.get("storageClassName") == old.get("storageClassName"),
        transition=True,
    ),
    Rule((*_STORAGE, "size"), "size must be greater than 0", lambda size, _old: parse_quantity(size) > 0),
    Rule(
        (*_STORAGE, "size"),
        "size may grow but never shrink",
        lambda size, old: parse_quantity(size) >= parse_quantity(old),
        transition=True,
    ),
)


def broken_rules(document: dict[str, Any], old: dict[str, Any] | None = None) -> Iterator[str]:
    """What a defaulted, schema-valid ``document`` (an update of ``old``, if given) breaks, in the API server's words."""
    for rule in RULES:
        value = _value_at(document, rule.path)
        old_value = None if old is None else _value_at(old, rule.path)
        if value is None or (rule.transition and old_value is None):
            continue
        try:
            problem = "" if rule.holds(value, old_value) else rule.message
        except ValueError as error:  # a quantity that is none, which the schema complains about as well
            problem = f"{error} evaluating rule: {rule.message}"
        if problem:
            # The API server names the type where CEL rules are broken, not the value, which may be large.
            yield f'{".".join(rule.path) or "<nil>"}: Invalid value: "{schema_at(rule.path)["type"]}": {problem}'


def _value_at(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        document = document.get(name)
        if document is None:
            return None
    return document
