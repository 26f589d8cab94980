import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.DataVersion;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;
import org.apache.rocketmq.remoting.protocol.admin.ConsumeStats;
import org.apache.rocketmq.remoting.protocol.admin.OffsetWrapper;
import org.apache.rocketmq.remoting.protocol.admin.TopicOffset;
import org.apache.rocketmq.remoting.protocol.admin.TopicStatsTable;
import org.apache.rocketmq.remoting.protocol.body.ClusterInfo;
import org.apache.rocketmq.remoting.protocol.body.ConsumerOffsetSerializeWrapper;
import org.apache.rocketmq.remoting.protocol.body.ConsumerRunningInfo;
import org.apache.rocketmq.remoting.protocol.body.GetConsumerStatusBody;
import org.apache.rocketmq.remoting.protocol.body.KVTable;
import org.apache.rocketmq.remoting.protocol.body.LockBatchRequestBody;
import org.apache.rocketmq.remoting.protocol.body.ProcessQueueInfo;
import org.apache.rocketmq.remoting.protocol.body.QueryCorrectionOffsetBody;
import org.apache.rocketmq.remoting.protocol.body.RegisterBrokerBody;
import org.apache.rocketmq.remoting.protocol.body.ResetOffsetBody;
import org.apache.rocketmq.remoting.protocol.body.TopicConfigAndMappingSerializeWrapper;
import org.apache.rocketmq.remoting.protocol.body.UnlockBatchRequestBody;
import org.apache.rocketmq.remoting.protocol.heartbeat.ConsumeType;
import org.apache.rocketmq.remoting.protocol.heartbeat.ConsumerData;
import org.apache.rocketmq.remoting.protocol.heartbeat.HeartbeatData;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;
import org.apache.rocketmq.remoting.protocol.heartbeat.ProducerData;
import org.apache.rocketmq.remoting.protocol.heartbeat.SubscriptionData;
import org.apache.rocketmq.remoting.protocol.route.BrokerData;
import org.apache.rocketmq.remoting.protocol.route.QueueData;
import org.apache.rocketmq.remoting.protocol.route.TopicRouteData;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;

/** Bodies that Java writes as JSON, with fixed values. */
final class BodyVectors {
    private BodyVectors() {
    }

    static Map<String, Object> bodies() throws Exception {
        Map<String, Object> out = new LinkedHashMap<>();
        text(out, "heartbeat", heartbeat());
        text(out, "topic_route", route());
        text(out, "cluster_info", clusterInfo());
        text(out, "topic_stats_table", topicStats());
        text(out, "consume_stats", consumeStats());
        text(out, "reset_offset", resetOffset());
        text(out, "consumer_status", consumerStatus());
        text(out, "consumer_offsets", consumerOffsets());
        text(out, "correction_offsets", correctionOffsets());
        text(out, "consumer_running_info", runningInfo());
        text(out, "lock_batch_request", lockRequest());
        text(out, "unlock_batch_request", unlockRequest());
        text(out, "kv_table", kvTable());
        text(out, "topic_config", topicConfig("t1"));
        text(out, "subscription_group_config", new SubscriptionGroupConfig());
        RegisterBrokerBody register = new RegisterBrokerBody();
        register.setFilterServerList(new ArrayList<>());
        TopicConfigAndMappingSerializeWrapper wrapper = new TopicConfigAndMappingSerializeWrapper();
        ConcurrentMap<String, TopicConfig> table = new ConcurrentHashMap<>();
        table.put("t1", topicConfig("t1"));
        wrapper.setTopicConfigTable(table);
        wrapper.setDataVersion(dataVersion());
        wrapper.setMappingDataVersion(dataVersion());
        register.setTopicConfigSerializeWrapper(wrapper);
        binary(out, "register_broker_plain", register.encode(false));
        binary(out, "register_broker_compressed", register.encode(true));
        return out;
    }

    private static void text(Map<String, Object> out, String name, Object body) {
        Map<String, Object> vector = new LinkedHashMap<>();
        vector.put("class", body.getClass().getSimpleName());
        vector.put("text", GoldenRecorder.text(RemotingSerializable.encode(body)));
        out.put(name, vector);
    }

    private static void binary(Map<String, Object> out, String name, byte[] body) {
        Map<String, Object> vector = new LinkedHashMap<>();
        vector.put("class", "RegisterBrokerBody");
        vector.put("hex", GoldenRecorder.hex(body));
        out.put(name, vector);
    }

    private static MessageQueue queue(int id) {
        return new MessageQueue("t1", "broker-a", id);
    }

    private static DataVersion dataVersion() {
        DataVersion version = new DataVersion();
        version.setTimestamp(1700000000000L);
        version.setStateVersion(7L);
        version.setCounter(new java.util.concurrent.atomic.AtomicLong(3L));
        return version;
    }

    private static TopicConfig topicConfig(String name) {
        TopicConfig config = new TopicConfig(name, 4, 8, 6);
        config.setAttributes(new HashMap<>(Map.of("message.type", "NORMAL")));
        return config;
    }

    private static HeartbeatData heartbeat() {
        SubscriptionData subscription = new SubscriptionData();
        subscription.setTopic("t1");
        subscription.setSubString("TagA || TagB");
        subscription.setTagsSet(new LinkedHashSet<>(Arrays.asList("TagA", "TagB")));
        subscription.setCodeSet(new LinkedHashSet<>(Arrays.asList("TagA".hashCode(), "TagB".hashCode())));
        subscription.setSubVersion(1700000000000L);
        subscription.setExpressionType("TAG");
        ConsumerData consumer = new ConsumerData();
        consumer.setGroupName("g1");
        consumer.setConsumeType(ConsumeType.CONSUME_PASSIVELY);
        consumer.setMessageModel(MessageModel.CLUSTERING);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setSubscriptionDataSet(new HashSet<>(Arrays.asList(subscription)));
        ProducerData producer = new ProducerData();
        producer.setGroupName("p1");
        HeartbeatData heartbeat = new HeartbeatData();
        heartbeat.setClientID("10.0.0.9@4711#1");
        heartbeat.setProducerDataSet(new HashSet<>(Arrays.asList(producer)));
        heartbeat.setConsumerDataSet(new HashSet<>(Arrays.asList(consumer)));
        return heartbeat;
    }

    private static BrokerData brokerData() {
        HashMap<Long, String> addresses = new HashMap<>();
        addresses.put(0L, "10.0.0.1:10911");
        addresses.put(1L, "10.0.0.2:10911");
        return new BrokerData("DefaultCluster", "broker-a", addresses);
    }

    private static TopicRouteData route() {
        QueueData queueData = new QueueData();
        queueData.setBrokerName("broker-a");
        queueData.setReadQueueNums(4);
        queueData.setWriteQueueNums(8);
        queueData.setPerm(6);
        TopicRouteData route = new TopicRouteData();
        route.setBrokerDatas(new ArrayList<>(Arrays.asList(brokerData())));
        route.setQueueDatas(new ArrayList<>(Arrays.asList(queueData)));
        route.setFilterServerTable(new HashMap<>());
        route.setOrderTopicConf("broker-a:4");
        return route;
    }

    private static ClusterInfo clusterInfo() {
        ClusterInfo info = new ClusterInfo();
        info.setBrokerAddrTable(new HashMap<>(Map.of("broker-a", brokerData())));
        info.setClusterAddrTable(new HashMap<>(Map.of("DefaultCluster", new HashSet<>(Arrays.asList("broker-a")))));
        return info;
    }

    private static TopicStatsTable topicStats() {
        TopicOffset offset = new TopicOffset();
        offset.setMinOffset(1L);
        offset.setMaxOffset(9L);
        offset.setLastUpdateTimestamp(1700000000000L);
        TopicStatsTable table = new TopicStatsTable();
        table.setOffsetTable(new ConcurrentHashMap<>(Map.of(queue(3), offset)));
        return table;
    }

    private static ConsumeStats consumeStats() {
        OffsetWrapper offset = new OffsetWrapper();
        offset.setBrokerOffset(9L);
        offset.setConsumerOffset(4L);
        offset.setPullOffset(5L);
        offset.setLastTimestamp(1700000000000L);
        ConsumeStats stats = new ConsumeStats();
        stats.setOffsetTable(new ConcurrentHashMap<>(Map.of(queue(3), offset)));
        stats.setConsumeTps(1.5);
        return stats;
    }

    private static ResetOffsetBody resetOffset() {
        ResetOffsetBody body = new ResetOffsetBody();
        body.setOffsetTable(new TreeMap<>(Map.of(queue(0), 5L, queue(1), 6L)));
        return body;
    }

    private static GetConsumerStatusBody consumerStatus() {
        GetConsumerStatusBody body = new GetConsumerStatusBody();
        body.setConsumerTable(new HashMap<>(Map.of("client-1", new TreeMap<>(Map.of(queue(0), 5L, queue(1), 6L)))));
        return body;
    }

    private static ConsumerOffsetSerializeWrapper consumerOffsets() {
        ConsumerOffsetSerializeWrapper wrapper = new ConsumerOffsetSerializeWrapper();
        ConcurrentMap<String, ConcurrentMap<Integer, Long>> table = new ConcurrentHashMap<>();
        table.put("t1@g1", new ConcurrentHashMap<>(Map.of(0, 5L, 1, 6L)));
        wrapper.setOffsetTable(table);
        wrapper.setDataVersion(dataVersion());
        return wrapper;
    }

    private static QueryCorrectionOffsetBody correctionOffsets() {
        QueryCorrectionOffsetBody body = new QueryCorrectionOffsetBody();
        body.setCorrectionOffsets(new HashMap<>(Map.of(0, 5L, 1, 6L)));
        return body;
    }

    private static ConsumerRunningInfo runningInfo() {
        ConsumerRunningInfo info = new ConsumerRunningInfo();
        info.setProperties(new java.util.Properties());
        info.getProperties().put("PROP_CONSUME_TYPE", "CONSUME_PASSIVELY");
        ProcessQueueInfo queueInfo = new ProcessQueueInfo();
        queueInfo.setCommitOffset(5L);
        info.setMqTable(new TreeMap<>(Map.of(queue(0), queueInfo)));
        info.setSubscriptionSet(new TreeSet<>());
        return info;
    }

    private static LockBatchRequestBody lockRequest() {
        LockBatchRequestBody body = new LockBatchRequestBody();
        body.setConsumerGroup("g1");
        body.setClientId("10.0.0.9@4711#1");
        body.setMqSet(new HashSet<>(Arrays.asList(queue(0), queue(1))));
        return body;
    }

    private static UnlockBatchRequestBody unlockRequest() {
        UnlockBatchRequestBody body = new UnlockBatchRequestBody();
        body.setConsumerGroup("g1");
        body.setClientId("10.0.0.9@4711#1");
        body.setMqSet(new HashSet<>(Arrays.asList(queue(0))));
        return body;
    }

    private static KVTable kvTable() {
        KVTable table = new KVTable();
        table.setTable(new HashMap<>(Map.of("key", "value")));
        return table;
    }
}
