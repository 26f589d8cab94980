"""What POP counts; plain integers, as in `rocketmq_broker.statistics`."""

from __future__ import annotations


class PopCounters:
    """Since the start, of all groups."""

    __slots__ = ("acked_nums", "handle_expired_nums", "popped_nums", "prolonged_nums", "revived_nums")

    def __init__(self) -> None:
        self.popped_nums = 0
        self.acked_nums = 0
        # Acknowledgements and changes that came after the message was given again, or twice.
        self.handle_expired_nums = 0
        self.prolonged_nums = 0
        self.revived_nums = 0
