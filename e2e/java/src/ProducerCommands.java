import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Producers, and the queries that every client instance can make. */
final class ProducerCommands implements Commands {
    /** The client's own code for "the query finished, but nothing was found". */
    private static final int NO_MESSAGE = 208;
    private final Map<String, DefaultMQProducer> producers = new ConcurrentHashMap<>();

    @Override
    public Object run(String command, Arguments arguments) throws Exception {
        switch (command) {
            case "producer.start": return start(arguments);
            case "producer.send": return send(arguments);
            case "producer.recall": return recall(arguments);
            case "producer.stop": producers.remove(arguments.text("name")).shutdown(); return true;
            case "producer.running": return producers.containsKey(arguments.text("name"));
            case "query.queues": return queues(arguments);
            case "query.key": return byKey(arguments);
            case "query.view": return Messages.describe(named(arguments).viewMessage(arguments.text("topic"), arguments.text("id")));
            case "query.offset": return offset(arguments);
            case "query.create_topic": return createTopic(arguments);
            default: return null;
        }
    }

    private DefaultMQProducer named(Arguments arguments) {
        DefaultMQProducer producer = producers.get(arguments.text("name"));
        if (producer == null) {
            throw new IllegalArgumentException("no producer named " + arguments.text("name"));
        }
        return producer;
    }

    private Object start(Arguments arguments) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(arguments.text("group", "peer_producer"), arguments.flag("trace"), null);
        producer.setNamesrvAddr(arguments.text("namesrv"));
        producer.setInstanceName(arguments.text("name"));
        if (arguments.has("namespace")) {
            producer.setNamespace(arguments.text("namespace"));
        }
        producer.setVipChannelEnabled(arguments.flag("vip"));
        producer.setSendMsgTimeout((int) arguments.number("timeout_ms", 5000));
        producer.setRetryTimesWhenSendFailed((int) arguments.number("retries", 2));
        producer.setCompressMsgBodyOverHowmuch((int) arguments.number("compress_over", 4096));
        if (arguments.has("compress_type")) {
            // 5.x has a setter, 4.9 reads a system property when the producer is made; neither class exists in the other.
            Class<?> type = Class.forName("org.apache.rocketmq.common.compression.CompressionType");
            Object value = type.getMethod("of", String.class).invoke(null, arguments.text("compress_type"));
            producer.getClass().getMethod("setCompressType", type).invoke(producer, value);
        }
        producer.start();
        producers.put(arguments.text("name"), producer);
        return true;
    }

    private static Map<String, Object> describe(SendResult result) {
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("status", result.getSendStatus().name());
        out.put("message_id", result.getMsgId());
        out.put("offset_message_id", result.getOffsetMsgId());
        out.put("broker_name", result.getMessageQueue().getBrokerName());
        out.put("queue_id", result.getMessageQueue().getQueueId());
        out.put("queue_offset", result.getQueueOffset());
        out.put("region_id", result.getRegionId());
        out.put("trace_on", result.isTraceOn());
        try {
            out.put("recall_handle", result.getClass().getMethod("getRecallHandle").invoke(result));
        } catch (ReflectiveOperationException unknown) {
            // Clients before 5.3 have no recall.
            out.put("recall_handle", null);
        }
        return out;
    }

    private Object recall(Arguments arguments) throws Exception {
        DefaultMQProducer producer = named(arguments);
        try {
            return producer.getClass().getMethod("recallMessage", String.class, String.class)
                .invoke(producer, arguments.text("topic"), arguments.text("handle"));
        } catch (java.lang.reflect.InvocationTargetException failed) {
            throw (Exception) failed.getCause();
        }
    }

    private Object send(Arguments arguments) throws Exception {
        DefaultMQProducer producer = named(arguments);
        String topic = arguments.text("topic");
        List<Message> messages = new ArrayList<>();
        List<Object> shards = new ArrayList<>();
        for (Arguments one : arguments.list("messages")) {
            messages.add(Messages.build(topic, one));
            shards.add(one.text("shard", ""));
        }
        List<Object> out = new ArrayList<>();
        switch (arguments.text("mode", "sync")) {
            case "sync":
                for (Message message : messages) {
                    out.add(describe(producer.send(message)));
                }
                return out;
            case "queue": {
                MessageQueue queue = queueOf(producer, topic, (int) arguments.number("queue_id", 0));
                for (Message message : messages) {
                    out.add(describe(producer.send(message, queue)));
                }
                return out;
            }
            case "ordered":
                for (int i = 0; i < messages.size(); i++) {
                    out.add(describe(producer.send(messages.get(i),
                        (queues, message, shard) -> queues.get(Math.floorMod(shard.hashCode(), queues.size())), shards.get(i))));
                }
                return out;
            case "oneway":
                for (Message message : messages) {
                    producer.sendOneway(message);
                }
                return out;
            case "batch":
                out.add(describe(producer.send(messages)));
                return out;
            case "async":
                return sendAsync(producer, messages, arguments.number("timeout_ms", 10000));
            default:
                throw new IllegalArgumentException("unknown mode " + arguments.text("mode"));
        }
    }

    private static Object sendAsync(DefaultMQProducer producer, List<Message> messages, long timeoutMs) throws Exception {
        Object[] results = new Object[messages.size()];
        CountDownLatch left = new CountDownLatch(messages.size());
        for (int i = 0; i < messages.size(); i++) {
            int index = i;
            producer.send(messages.get(i), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    results[index] = describe(result);
                    left.countDown();
                }

                @Override
                public void onException(Throwable failure) {
                    Map<String, Object> out = new LinkedHashMap<>();
                    out.put("status", "FAILED");
                    out.put("error", String.valueOf(failure));
                    results[index] = out;
                    left.countDown();
                }
            });
        }
        if (!left.await(timeoutMs, TimeUnit.MILLISECONDS)) {
            throw new IllegalStateException(left.getCount() + " callbacks missing after " + timeoutMs + " ms");
        }
        return java.util.Arrays.asList(results);
    }

    private static MessageQueue queueOf(DefaultMQProducer producer, String topic, int queueId) throws Exception {
        for (MessageQueue queue : producer.fetchPublishMessageQueues(topic)) {
            if (queue.getQueueId() == queueId) {
                return queue;
            }
        }
        throw new IllegalArgumentException("no queue " + queueId + " in " + topic);
    }

    private Object queues(Arguments arguments) throws Exception {
        List<Object> out = new ArrayList<>();
        for (MessageQueue queue : named(arguments).fetchPublishMessageQueues(arguments.text("topic"))) {
            out.add(queue.getBrokerName() + ":" + queue.getQueueId());
        }
        return out;
    }

    private Object byKey(Arguments arguments) throws Exception {
        List<Object> out = new ArrayList<>();
        try {
            for (MessageExt message : named(arguments).queryMessage(arguments.text("topic"), arguments.text("key"),
                (int) arguments.number("count_max", 32), arguments.number("begin_ms", 0), arguments.number("end_ms", Long.MAX_VALUE)).getMessageList()) {
                out.add(Messages.describe(message));
            }
        } catch (MQClientException failure) {
            if (failure.getResponseCode() != NO_MESSAGE) {
                throw failure;
            }
        }
        return out;
    }

    private Object offset(Arguments arguments) throws Exception {
        DefaultMQProducer producer = named(arguments);
        MessageQueue queue = queueOf(producer, arguments.text("topic"), (int) arguments.number("queue_id", 0));
        switch (arguments.text("which")) {
            case "min": return producer.minOffset(queue);
            case "max": return producer.maxOffset(queue);
            case "time": return producer.searchOffset(queue, arguments.number("timestamp_ms", 0));
            case "earliest_ms": return producer.earliestMsgStoreTime(queue);
            default: throw new IllegalArgumentException("unknown offset " + arguments.text("which"));
        }
    }

    private Object createTopic(Arguments arguments) throws Exception {
        DefaultMQProducer producer = named(arguments);
        // The 4.9 and the 5.5 signature differ: 5.5 adds the attributes.
        try {
            producer.getClass().getMethod("createTopic", String.class, String.class, int.class, Map.class)
                .invoke(producer, "TBW102", arguments.text("topic"), (int) arguments.number("queues", 4), new HashMap<String, String>());
        } catch (NoSuchMethodException inFourNine) {
            producer.getClass().getMethod("createTopic", String.class, String.class, int.class)
                .invoke(producer, "TBW102", arguments.text("topic"), (int) arguments.number("queues", 4));
        }
        return true;
    }
}
