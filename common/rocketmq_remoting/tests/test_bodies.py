"""Bodies as clients other than Java's write them."""

from __future__ import annotations

import msgspec
import pytest

from rocketmq_remoting.bodies import (
    BROADCASTING,
    CONSUME_ACTIVELY,
    CONSUME_FROM_FIRST_OFFSET,
    CONSUME_FROM_TIMESTAMP,
    ConsumerData,
    HeartbeatData,
)

# As Apache's C++ client 1.2 sends it.
CPP_HEARTBEAT = (
    b'{"clientID":"20503-127.0.0.1@c","consumerDataSet":[{"consumeFromWhere":4,"consumeType":0,"groupName":"g",'
    b'"messageModel":0,"subscriptionDataSet":[{"codeSet":[0],"subString":"TagR","subVersion":"1795553712956",'
    b'"tagsSet":["TagR"],"topic":"T"}]}]}\n'
)


def test_ordinals_of_enumerations_are_read_as_their_names() -> None:
    data = msgspec.json.decode(CPP_HEARTBEAT, type=HeartbeatData, strict=False)
    (consumer,) = data.consumer_data_set
    assert (consumer.consume_type, consumer.message_model, consumer.consume_from_where) == (
        CONSUME_ACTIVELY,
        BROADCASTING,
        CONSUME_FROM_FIRST_OFFSET,
    )
    assert consumer.subscription_data_set[0].sub_version == 1795553712956


def test_the_last_ordinal_is_read_and_the_one_after_it_is_refused() -> None:
    body = b'{"groupName": "g", "consumeFromWhere": %d}'
    assert msgspec.json.decode(body % 5, type=ConsumerData).consume_from_where == CONSUME_FROM_TIMESTAMP
    with pytest.raises(msgspec.ValidationError, match="consume_from_where 6 is none of"):
        msgspec.json.decode(body % 6, type=ConsumerData)
