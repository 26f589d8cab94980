import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Transactional producers that answer as they were told, and both ends of request-reply. */
final class TransactionCommands implements Commands {
    /** COMMIT_MESSAGE, ROLLBACK_MESSAGE or UNKNOW for the local transaction comes with each message, for checks by name. */
    private static final class Listener implements TransactionListener {
        final List<Object> checks = new ArrayList<>();
        volatile LocalTransactionState checkState = LocalTransactionState.UNKNOW;

        @Override
        public LocalTransactionState executeLocalTransaction(Message message, Object state) {
            return LocalTransactionState.valueOf(state.toString());
        }

        @Override
        public LocalTransactionState checkLocalTransaction(MessageExt message) {
            Map<String, Object> seen = Messages.describe(message);
            seen.put("transaction_id", message.getTransactionId());
            synchronized (checks) {
                checks.add(seen);
            }
            return checkState;
        }
    }

    private final Map<String, TransactionMQProducer> producers = new ConcurrentHashMap<>();
    private final Map<String, Listener> listeners = new ConcurrentHashMap<>();
    private final Map<String, DefaultMQPushConsumer> repliers = new ConcurrentHashMap<>();
    private final Map<String, DefaultMQProducer> answering = new ConcurrentHashMap<>();

    @Override
    public Object run(String command, Arguments arguments) throws Exception {
        switch (command) {
            case "transaction.start": return start(arguments);
            case "transaction.send": return send(arguments);
            case "transaction.answer": return answer(arguments);
            case "transaction.checks": return checks(arguments);
            case "transaction.running": return producers.containsKey(arguments.text("name"));
            case "transaction.stop": producers.remove(arguments.text("name")).shutdown(); return true;
            case "transaction.request": return request(arguments);
            case "replier.start": return startReplier(arguments);
            case "replier.running": return repliers.containsKey(arguments.text("name"));
            case "replier.stop": return stopReplier(arguments);
            default: return null;
        }
    }

    private Object start(Arguments arguments) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(arguments.text("group"));
        Listener listener = new Listener();
        producer.setNamesrvAddr(arguments.text("namesrv"));
        producer.setInstanceName(arguments.text("name"));
        producer.setVipChannelEnabled(false);
        producer.setSendMsgTimeout(5000);
        producer.setHeartbeatBrokerInterval(1000);
        producer.setPollNameServerInterval(1000);
        producer.setTransactionListener(listener);
        producer.start();
        producers.put(arguments.text("name"), producer);
        listeners.put(arguments.text("name"), listener);
        return true;
    }

    private Object send(Arguments arguments) throws Exception {
        List<Object> out = new ArrayList<>();
        for (Arguments one : arguments.list("messages")) {
            TransactionSendResult result = producers.get(arguments.text("name"))
                .sendMessageInTransaction(Messages.build(arguments.text("topic"), one), one.text("state"));
            Map<String, Object> described = new LinkedHashMap<>();
            described.put("status", result.getSendStatus().name());
            described.put("message_id", result.getMsgId());
            described.put("offset_message_id", result.getOffsetMsgId());
            described.put("transaction_id", result.getTransactionId());
            described.put("state", result.getLocalTransactionState().name());
            described.put("queue_id", result.getMessageQueue().getQueueId());
            out.add(described);
        }
        return out;
    }

    private Object answer(Arguments arguments) {
        listeners.get(arguments.text("name")).checkState = LocalTransactionState.valueOf(arguments.text("state"));
        return true;
    }

    private Object checks(Arguments arguments) {
        List<Object> checks = listeners.get(arguments.text("name")).checks;
        synchronized (checks) {
            return new ArrayList<>(checks);
        }
    }

    private Object request(Arguments arguments) throws Exception {
        Message message = Messages.build(arguments.text("topic"), arguments);
        Message reply = producers.get(arguments.text("name")).request(message, arguments.number("timeout_ms", 10000));
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("topic", reply.getTopic());
        out.put("body", new String(reply.getBody(), StandardCharsets.UTF_8));
        out.put("properties", new HashMap<>(reply.getProperties()));
        return out;
    }

    /** A consumer that answers each request with its body in upper case. */
    private Object startReplier(Arguments arguments) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(arguments.text("group") + "-replies");
        producer.setNamesrvAddr(arguments.text("namesrv"));
        producer.setInstanceName(arguments.text("name") + "-replies");
        producer.setVipChannelEnabled(false);
        producer.start();
        answering.put(arguments.text("name"), producer);
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(arguments.text("group"));
        consumer.setNamesrvAddr(arguments.text("namesrv"));
        consumer.setInstanceName(arguments.text("name"));
        consumer.setVipChannelEnabled(false);
        consumer.setPullTimeDelayMillsWhenException(100);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(arguments.text("topic"), "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                String text = new String(message.getBody(), StandardCharsets.UTF_8).toUpperCase();
                try {
                    producer.send(MessageUtil.createReplyMessage(message, text.getBytes(StandardCharsets.UTF_8)), 3000);
                } catch (Exception failure) {
                    failure.printStackTrace();
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        repliers.put(arguments.text("name"), consumer);
        return true;
    }

    private Object stopReplier(Arguments arguments) {
        repliers.remove(arguments.text("name")).shutdown();
        answering.remove(arguments.text("name")).shutdown();
        return true;
    }
}
