"""Each P0 and P1 command of mqadmin 5.5 on our cluster and on Apache's: both end alike, and what they print is of one kind.

A kind is what a script relies on: columns of a table, keys of a list, the words of a message; not the values. Some commands keep
clients in static fields and work once in a process, so each cluster has an mqadmin of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e import toolchain
from e2e.clusters import Cluster
from e2e.conftest import tools
from e2e.drivers import java_driver
from e2e.peers.mqadmin import Admin, prepared

pytestmark = [pytest.mark.peers, pytest.mark.timeout(150)]
Kind = Callable[[str], object]


def words(text: str) -> object:
    """The kinds of lines without what differs by run: names, numbers, addresses, times."""
    return {
        " ".join(re.findall(r"(?<![\w-])[A-Za-z]{2,}(?![\w-])", line)) for line in text.splitlines() if line.strip()
    }


def columns(text: str) -> object:
    """Headings of tables, and how many words their rows have."""
    lines = [line for line in text.splitlines() if line.strip()]
    headings = {" ".join(line.split()) for line in lines if line.startswith("#")}
    return headings, {len(line.split()) for line in lines if not line.startswith("#")}


def headings(text: str) -> object:
    """Headings alone, where what a cluster has seen decides on its rows."""
    return {" ".join(line.split()) for line in text.splitlines() if line.startswith("#")}


def fields(text: str) -> object:
    """Names before ``:`` of a message as it is shown."""
    return {match[1] for match in re.finditer(r"^([A-Z][\w ]*):", text, re.MULTILINE)}


def any_text(text: str) -> object:
    """Whether there is anything: files are compared by their own tests."""
    return bool(text.strip())


# In this order: the first make what later ones need, the last remove it.
COMMANDS: tuple[tuple[str, Kind], ...] = (
    ("clusterList", columns),
    ("clusterList -m", columns),
    ("updateTopic -b {broker} -t {topic}-new -r 2 -w 2", words),
    ("updateTopic -c PeerCluster -t {topic}-new -r 2 -w 2 -a +message.type=NORMAL", words),
    ("updateTopic -b {broker} -t bad:name", words),
    ("updateTopicPerm -b {broker} -t {topic}-new -p 6", words),
    ("updateTopicList -b {broker} -f {topics}", words),
    ("topicList", any_text),
    ("topicList -c", headings),
    ("topicRoute -t {topic}", words),
    ("topicRoute -t {topic} -l", columns),
    ("topicRoute -t absent", words),
    ("topicStatus -t {topic}", columns),
    ("topicStatus -t absent", words),
    ("topicClusterList -t {topic}", words),
    ("updateOrderConf -t {topic} -m put -v broker-a:1", words),
    ("updateOrderConf -t {topic} -m get", words),
    ("updateOrderConf -t {topic} -m delete", words),
    ("allocateMQ -t {topic} -i 10.0.0.1,10.0.0.2", words),
    ("updateSubGroup -b {broker} -g {group}-new", words),
    ("updateSubGroup -c PeerCluster -g {group}-new", words),
    ("updateSubGroupList -b {broker} -f {groups}", words),
    ("getConsumerConfig -g {group}", words),
    ("consumerProgress", headings),
    ("consumerProgress -g {group}", columns),
    ("consumerProgress -g {group} -t {topic} -s true", columns),
    ("consumerProgress -g absent", words),
    ("consumerStatus -g {group}", words),
    ("consumerConnection -g {group}", words),
    ("consumerConnection -g absent", words),
    ("producerConnection -g {producers} -t {topic}", words),
    ("producerConnection -g absent -t {topic}", words),
    ("producer -b {broker}", words),
    ("sendMessage -t {topic} -p body -k key -c Tag", columns),
    ("consumeMessage -t {topic} -b broker-a -i {queue} -o {offset} -c 1", words),
    ("printMsg -t {topic} -d true", words),
    ("printMsg -t {topic} -d false -s TagX", words),
    ("printMsgByQueue -t {topic} -a broker-a -i {queue} -p true -d true", words),
    ("queryMsgById -t {topic} -i {offset_id}", fields),
    ("queryMsgByUniqueKey -t {topic} -i {id}", fields),
    ("queryMsgByKey -t {topic} -k key-3", columns),
    ("queryMsgByKey -t {topic} -k absent", words),
    ("queryMsgByOffset -t {topic} -b broker-a -i {queue} -o {offset}", fields),
    ("queryMsgTraceById -i {id}", any_text),
    ("checkMsgSendRT -t {topic} -a 2 -s 16", columns),
    ("sendMsgStatus -b broker-a -s 16 -c 2", any_text),
    ("queryCq -t {topic} -q {queue} -i 0 -c 5 -b {broker}", headings),
    ("brokerConsumeStats -b {broker}", columns),
    ("statsAll", headings),
    ("statsAll -t {topic}", columns),
    ("haStatus -b {broker}", words),
    ("haStatus -c PeerCluster", words),
    ("wipeWritePerm -b broker-a", words),
    ("addWritePerm -b broker-a", words),
    ("cleanExpiredCQ -b {broker}", words),
    ("cleanUnusedTopic -b {broker}", words),
    ("deleteExpiredCommitLog -b {broker}", words),
    ("updateBrokerConfig -b {broker} -k fileReservedTime -v 49", words),
    ("updateBrokerConfig -c PeerCluster -k fileReservedTime -v 48", words),
    ("updateBrokerConfig -b {broker} -k brokerConfigPath -v x", words),
    ("updateNamesrvConfig -k waitSecondsForService -v 45", words),
    ("updateNamesrvConfig -k kvConfigPath -v x", words),
    ("updateKvConfig -s PEERS -k k -v v", words),
    ("deleteKvConfig -s PEERS -k k", words),
    ("setConsumeMode -b {broker} -t {topic} -g {group}-new -m POP -q 1", words),
    ("cloneGroupOffset -s {group} -d {group}-new -t {topic}", words),
    ("resetOffsetByTime -g {group} -t {topic} -s now", columns),
    ("resetOffsetByTime -g absent -t {topic} -s now", any_text),
    ("skipAccumulatedMessage -g {group} -t {topic}", headings),
    ("exportMetadata -c PeerCluster -f {directory}", words),
    ("exportConfigs -c PeerCluster -f {directory}", words),
    ("exportMetrics -c PeerCluster -f {directory}", words),
    ("deleteSubGroup -b {broker} -g {group}-new", words),
    ("deleteTopic -c PeerCluster -t {topic}-new", words),
)
# Of keys that both know, the values that are a process's own.
OWN = {
    "storePathRootDir", "namesrvAddr", "brokerIP2", "listenPort", "haListenPort", "kvConfigPath", "configStorePath",
}  # fmt: skip


@pytest.fixture(scope="module")
def admins(
    cluster: Cluster, apache_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Admin, Admin]]:
    """mqadmin on the judged cluster and on Apache's, each with an online group that has consumed eight messages."""
    with tools():
        peer = toolchain.apache()
    with ExitStack() as stack:
        made = []
        for of in (cluster, apache_cluster):
            java = stack.enter_context(java_driver(peer, tmp_path_factory.mktemp("mqadmin")))
            made.append(stack.enter_context(prepared(java, of)))
        yield made[0], made[1]


def arguments(admin: Admin, directory: Path) -> dict[str, object]:
    """What the names in braces stand for."""
    topics, groups = directory / "topics.json", directory / "groups.json"
    topics.write_text(
        json.dumps([{"topicName": f"{admin.topic}-file", "readQueueNums": 3, "writeQueueNums": 2, "perm": 6}])
    )
    groups.write_text(json.dumps([{"groupName": f"{admin.group}-file", "retryMaxTimes": 3}]))
    sent = admin.sent[3]
    return {
        "broker": admin.broker, "topic": admin.topic, "group": admin.group, "topics": topics, "groups": groups,
        "producers": f"pg-{admin.group.rsplit('-', 1)[1]}", "queue": sent["queue_id"], "offset": sent["queue_offset"],
        "id": sent["message_id"], "offset_id": sent["offset_message_id"], "directory": directory,
    }  # fmt: skip


@pytest.mark.parametrize(("command", "kind"), COMMANDS, ids=[command.split(" {")[0] for command, _ in COMMANDS])
def test_a_command_ends_and_prints_as_on_apache(
    admins: tuple[Admin, Admin], tmp_path: Path, command: str, kind: Kind
) -> None:
    ours, theirs = (
        admin.tries(*(word.format(**arguments(admin, tmp_path)) for word in command.split())) for admin in admins
    )
    assert ours.failed == theirs.failed, f"{ours}\n{theirs}"
    assert kind(ours.output) == kind(theirs.output), f"{ours.output}\n{theirs.output}"


def values(admin: Admin, command: str) -> dict[str, str]:
    """The ``key : value`` and ``key = value`` lines that a command prints."""
    return dict(re.findall(r"^(\w+) *[:=] +(.*?) *$", admin(*command.format(broker=admin.broker).split()).output, re.M))


def test_broker_status_has_every_key_of_apaches(admins: tuple[Admin, Admin]) -> None:
    ours, theirs = (values(admin, "brokerStatus -b {broker}") for admin in admins)
    assert {*theirs} - {*ours} == set()


@pytest.mark.parametrize("command", ["getBrokerConfig -b {broker}", "getNamesrvConfig"], ids=["broker", "namesrv"])
def test_settings_that_both_know_have_the_same_values(admins: tuple[Admin, Admin], command: str) -> None:
    ours, theirs = (values(admin, command) for admin in admins)
    both = {*ours} & {*theirs}
    assert len(both) > 10
    assert {key: (ours[key], theirs[key]) for key in both - OWN if ours[key] != theirs[key]} == {}
