"""Progress in local files, and what the broker may send to reset it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocketmq_client import ClientError, MessageQueue
from rocketmq_client.callbacks import parse_offset_table
from rocketmq_client.offsets import LocalOffsets
from rocketmq_remoting.errors import RemotingError

ONE = MessageQueue("orders", "broker-a", 0)
TWO = MessageQueue("orders", "broker-a", 1)


async def test_offsets_survive_in_javas_form(tmp_path: Path) -> None:
    offsets = LocalOffsets("g", tmp_path)
    assert await offsets.fetch(ONE) is None
    assert await offsets.commit({ONE: 5, TWO: 7}) == {ONE, TWO}
    assert (tmp_path / "g" / "offsets.json").read_bytes() == (
        b'{"offsetTable":{{"topic":"orders","brokerName":"broker-a","queueId":0}:5,'
        b'{"topic":"orders","brokerName":"broker-a","queueId":1}:7}}'
    )
    again = LocalOffsets("g", tmp_path)
    assert (await again.fetch(ONE), await again.fetch(TWO)) == (5, 7)


@pytest.mark.parametrize(
    "text",
    [
        '{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"orders"}:5}}',
        '{"offsetTable":{"{\\"brokerName\\":\\"broker-a\\",\\"queueId\\":0,\\"topic\\":\\"orders\\"}":"5"}}',
    ],
)
async def test_files_of_java_consumers_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "offsets.json").write_text(text)
    assert await LocalOffsets("g", tmp_path).fetch(ONE) == 5


async def test_a_damaged_file_is_replaced_by_its_backup(tmp_path: Path) -> None:
    offsets = LocalOffsets("g", tmp_path)
    await offsets.commit({ONE: 1})
    await offsets.commit({ONE: 2})
    (tmp_path / "g" / "offsets.json").write_text("{broken")
    assert await LocalOffsets("g", tmp_path).fetch(ONE) == 1


async def test_damage_without_a_backup_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "offsets.json").write_text("{broken")
    with pytest.raises(ClientError, match=r"offsets\.json"):
        await LocalOffsets("g", tmp_path).fetch(ONE)


async def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClientError, match="offset_directory"):
        await LocalOffsets("g", tmp_path / "file").commit({ONE: 1})


def test_reset_tables_come_in_the_form_of_java_and_of_cpp() -> None:
    java = b'{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"orders"}:5}}'
    cpp = b'{"offsetTable":[{"brokerName":"broker-a","queueId":0,"topic":"orders","offset":5}]}'
    assert parse_offset_table(java) == parse_offset_table(cpp) == {ONE: 5}
    assert parse_offset_table(b"{}") == {}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"offsetTable":[{"topic":"t"}]}', b'{"offsetTable":{"a":1}}'])
def test_a_reset_table_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(RemotingError):
        parse_offset_table(body)
