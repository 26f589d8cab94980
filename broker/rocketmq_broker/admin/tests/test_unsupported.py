"""What mqadmin can ask and this broker does not have is answered "not supported", at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rocketmq_broker.tests.harness import serving
from rocketmq_remoting.codes import ResponseCode

# By command of mqadmin 5.5.
UNSUPPORTED = {
    "updateStaticTopic, remappingStaticTopic": (513,),
    "updateColdDataFlowCtrGroupConfig, removeColdDataFlowCtrGroupConfig, getColdDataFlowCtrInfo": (2001, 2002, 2003),
    "setCommitLogReadAheadMode": (2004,),
    "exportMetadataInRocksDB, rocksDBConfigToJson, checkRocksdbCqWriteProgress, exportPopRecord": (354, 355),
    "addBroker, removeBroker": (902, 903),
    "electMaster, getControllerMetaData, getSyncStateSet, getBrokerEpoch": (1002, 1005, 1006, 1007),
    "updateControllerConfig, getControllerConfig, cleanBrokerMetadata": (1009, 1010, 1011),
    "createUser, updateUser, deleteUser, getUser, listUser": (3001, 3002, 3003, 3004, 3005),
    "createAcl, updateAcl, deleteAcl, getAcl, listAcl": (3006, 3007, 3008, 3009, 3010),
    "switchTimerEngine": (5001,),
    "getBrokerLiteInfo and the other lite commands": tuple(range(200070, 200080)),
}


async def test_every_command_without_a_counterpart_is_told_so_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer, asyncio.timeout(30):
        served = {route.code for route in peer.broker.routes()}
        for command, codes in UNSUPPORTED.items():
            for code in codes:
                assert code not in served, f"{command}: {code} is served now: take it from this table"
                answer = await peer.ask(code, {"topic": "T", "group": "cg", "brokerName": "broker-a"}, b"{}")
                assert answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED, (command, code)
                assert str(code) in (answer.remark or "")
