"""RocketMQ client for asyncio: typed, pure Python, over the remoting protocol; for Apache's brokers and ours alike.

`Producer` sends, `PushConsumer`, `LitePullConsumer` and `PopConsumer` receive, `Admin` administers. All are async context
managers and share one set of connections per process, event loop and name server list. Errors are `ClientError` and its subclasses.
"""

from rocketmq_client.admin.access import BrokerAddress, ClusterInfo
from rocketmq_client.admin.brokers import StatsValue
from rocketmq_client.admin.client import Admin
from rocketmq_client.admin.connections import ClientConnection, ConsumerConnections
from rocketmq_client.admin.dead_letters import DeadLetterCount
from rocketmq_client.admin.diagnosis import Diagnosis, Finding, Severity
from rocketmq_client.admin.groups import GroupProgress, QueueProgress
from rocketmq_client.admin.topics import QueueStats
from rocketmq_client.allocation import (
    AllocationStrategy,
    Average,
    AverageByCircle,
    ByConfig,
    ByMachineRoom,
    ConsistentHash,
    MachineRoomNearby,
)
from rocketmq_client.compression import Compression, DecompressionError
from rocketmq_client.errors import (
    BrokerBusy,
    BrokerUnavailable,
    ClientClosed,
    ClientError,
    GroupNotFound,
    InvalidArgument,
    MessageNotFound,
    MessageTooLarge,
    NameServerUnavailable,
    NobodyOnline,
    NotFound,
    PermissionDenied,
    RequestRefused,
    RequestTimeout,
    TopicNotFound,
    Unreachable,
)
from rocketmq_client.lite_pull_consumer import LitePullConsumer
from rocketmq_client.membership import MessageModel
from rocketmq_client.messages import ConsumeResult, Message, MessageView, SendReceipt, SendStatus
from rocketmq_client.pop_consumer import PopConsumer
from rocketmq_client.pop_requests import PoppedMessage
from rocketmq_client.producer import Producer
from rocketmq_client.push_consumer import Delivery, PushConsumer
from rocketmq_client.requests import Requester, reply
from rocketmq_client.routes import Route
from rocketmq_client.selectors import QueueSelector, hash_selector
from rocketmq_client.start_offsets import ConsumeFrom
from rocketmq_client.subscriptions import Sql, Tags
from rocketmq_client.trace_records import TraceEvent
from rocketmq_client.tracing import Tracer
from rocketmq_client.transactions import TransactionProducer, TransactionReceipt, TransactionState
from rocketmq_common.groups import SubscriptionGroupConfig
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.bodies import MessageQueue

__all__ = [
    "Admin",
    "AllocationStrategy",
    "Average",
    "AverageByCircle",
    "BrokerAddress",
    "BrokerBusy",
    "BrokerUnavailable",
    "ByConfig",
    "ByMachineRoom",
    "ClientClosed",
    "ClientConnection",
    "ClientError",
    "ClusterInfo",
    "Compression",
    "ConsistentHash",
    "ConsumeFrom",
    "ConsumeResult",
    "ConsumerConnections",
    "DeadLetterCount",
    "DecompressionError",
    "Delivery",
    "Diagnosis",
    "Finding",
    "GroupNotFound",
    "GroupProgress",
    "InvalidArgument",
    "LitePullConsumer",
    "MachineRoomNearby",
    "Message",
    "MessageModel",
    "MessageNotFound",
    "MessageQueue",
    "MessageTooLarge",
    "MessageView",
    "NameServerUnavailable",
    "NobodyOnline",
    "NotFound",
    "PermissionDenied",
    "PopConsumer",
    "PoppedMessage",
    "Producer",
    "PushConsumer",
    "QueueProgress",
    "QueueSelector",
    "QueueStats",
    "RequestRefused",
    "RequestTimeout",
    "Requester",
    "Route",
    "SendReceipt",
    "SendStatus",
    "Severity",
    "Sql",
    "StatsValue",
    "SubscriptionGroupConfig",
    "Tags",
    "TopicConfig",
    "TopicNotFound",
    "TraceEvent",
    "Tracer",
    "TransactionProducer",
    "TransactionReceipt",
    "TransactionState",
    "Unreachable",
    "hash_selector",
    "reply",
]
