"""Keys of Apache's ``broker.conf`` that this broker accepts without having what they steer."""

from __future__ import annotations

from typing import Final

# They size threads and buffers, or steer parts that are off or work otherwise here: nothing to warn about.
KEYS_WITHOUT_EFFECT: Final = frozenset(
    """
    rocketmqHome brokerHeartbeatInterval brokerNotActiveTimeoutMillis compatibleWithOldNameSrv serverWorkerThreads
    serverSelectorThreads serverCallbackExecutorThreads serverOnewaySemaphoreValue serverAsyncSemaphoreValue
    serverSocketSndBufSize serverSocketRcvBufSize useEpollNativeSelector sendMessageThreadPoolNums
    pullMessageThreadPoolNums litePullMessageThreadPoolNums ackMessageThreadPoolNums queryMessageThreadPoolNums
    endTransactionThreadPoolNums clientManageThreadPoolNums consumerManageThreadPoolNums heartbeatThreadPoolNums
    adminBrokerThreadPoolNums processReplyMessageThreadPoolNums putMessageFutureThreadPoolNums
    sendThreadPoolQueueCapacity pullThreadPoolQueueCapacity queryThreadPoolQueueCapacity
    clientManagerThreadPoolQueueCapacity consumerManagerThreadPoolQueueCapacity heartbeatThreadPoolQueueCapacity
    endTransactionPoolQueueCapacity waitTimeMillsInPullQueue waitTimeMillsInTransactionQueue waitTimeMillsInAckQueue
    waitTimeMillsInHeartbeatQueue asyncSendEnable transferMsgByHeap accessMessageInMemoryHotRatio
    flushCommitLogTimed flushCommitLogLeastPages flushCommitLogThoroughInterval commitIntervalCommitLog
    commitCommitLogLeastPages commitCommitLogThoroughInterval flushConsumeQueueLeastPages
    flushConsumeQueueThoroughInterval wakeFlushWhenPutMessage wakeCommitWhenPutMessage
    useReentrantLockWhenPutMessage topicQueueLockNum osPageCacheBusyTimeOutMills warmMapedFileEnable
    travelCqFileNumWhenGetMessage deleteCommitLogFilesInterval deleteConsumeQueueFilesInterval
    destroyMapedFileIntervalForcibly redeleteHangedFileInterval haSlaveFallbehindMax allAckInSyncStateSet
    timerSkipUnknownError timerEnableRetryUntilSuccess messageIndexSafe enableScheduleAsyncDeliver
    transactionOpBatchInterval enableBroadcastOffsetStore metricsExporterType
    metricsPromExporterPort metricsPromExporterHost putConsumeQueueDataByFileChannel mappedFileSwapEnable
    dataReadAheadEnable autoMessageVersionOnTopicLen enableCalcFilterBitMap expectConsumerNumUseFilter
    maxErrorRateOfBloomFilter filterDataCleanTimeSpan bitMapLengthConsumeQueueExt
    reviveInterval reviveMaxSlow reviveScanTime reviveAckWaitMs popCkStayBufferTime popCkStayBufferTimeOut
    popCkMaxBufferSize popCkOffsetMaxQueueSize enablePopBatchAck enablePopBufferMerge enableSkipLongAwaitingAck
    enablePopMessageThreshold enablePopLog popLongPollingForceNotifyInterval initPopOffsetByCheckMsgInMem
    enableNotifyAfterPopOrderLockRelease popConsumerKVServiceInit popConsumerKVServiceEnable
    """.split()  # noqa: SIM905 - ninety names are read better as words
)
# Accepted only with these values: anything else would need a part that is missing, and ignoring it would surprise.
ONLY_VALUES: Final = {
    "storeType": ("default",),
    "enableDLegerCommitLog": ("false",),
    "enableControllerMode": ("false",),
    "transientStorePoolEnable": ("false",),
    "enableConsumeQueueExt": ("false",),
    "duplicationEnable": ("false",),
    "aclEnable": ("false",),
    "authenticationEnabled": ("false",),
    "authorizationEnabled": ("false",),
    "configManagerVersion": ("v1",),
    "fetchNamesrvAddrByAddressServer": ("false",),
}
