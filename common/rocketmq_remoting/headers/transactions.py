"""The end of transactions, and their resumption by an operator."""

from __future__ import annotations

from msgspec import field

from rocketmq_remoting.commands import Header


class EndTransactionRequestHeader(Header):
    """Code 37, one-way. ``tran_state_table_offset`` is the half message's queue offset, ``commit_log_offset`` its log offset.

    ``commit_or_rollback`` is 8 to commit, 12 to roll back, 0 when the producer does not know.
    """

    producer_group: str
    tran_state_table_offset: int
    commit_log_offset: int
    commit_or_rollback: int
    msg_id: str
    topic: str | None = None
    from_transaction_check: bool = field(name="fromTransactionCheck", default=False)
    transaction_id: str | None = None
    broker_name: str | None = field(name="bname", default=None)


class ResumeCheckHalfMessageRequestHeader(Header):
    """Code 323. ``msg_id`` is the offset id of a message in TRANS_CHECK_MAX_TIME_TOPIC."""

    msg_id: str
    topic: str | None = None
