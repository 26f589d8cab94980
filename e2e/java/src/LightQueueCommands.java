import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Light queues (LMQ): named by a property of a message, pulled from directly. */
final class LightQueueCommands implements Commands {
    private final Map<String, DefaultMQPullConsumer> consumers = new ConcurrentHashMap<>();

    @Override
    public Object run(String command, Arguments arguments) throws Exception {
        switch (command) {
            case "light.send": return send(arguments);
            case "light.start": return start(arguments);
            case "light.pull": return pull(arguments);
            case "light.commit": return commit(arguments);
            case "light.committed": return named(arguments).fetchConsumeOffset(queue(arguments), true);
            case "light.running": return consumers.containsKey(arguments.text("name"));
            case "light.stop": consumers.remove(arguments.text("name")).shutdown(); return true;
            default: return null;
        }
    }

    private DefaultMQPullConsumer named(Arguments arguments) {
        return consumers.get(arguments.text("name"));
    }

    private static MessageQueue queue(Arguments arguments) {
        return new MessageQueue(arguments.text("queue"), arguments.text("broker_name"), 0);
    }

    private Object send(Arguments arguments) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(arguments.text("name"));
        producer.setNamesrvAddr(arguments.text("namesrv"));
        producer.setInstanceName(arguments.text("name"));
        producer.start();
        try {
            for (Arguments one : arguments.list("messages")) {
                Message message = new Message(arguments.text("topic"), one.body());
                MessageAccessor.putProperty(message, "INNER_MULTI_DISPATCH", one.text("lights"));
                producer.send(message);
            }
        } finally {
            producer.shutdown();
        }
        return true;
    }

    /** No name server knows a light queue, so that the client must know its broker by a topic. */
    private Object start(Arguments arguments) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(arguments.text("group"));
        consumer.setNamesrvAddr(arguments.text("namesrv"));
        consumer.setInstanceName(arguments.text("name"));
        consumer.setRegisterTopics(Collections.singleton(arguments.text("topic")));
        consumer.start();
        consumer.getDefaultMQPullConsumerImpl().getRebalanceImpl().getmQClientFactory()
            .updateTopicRouteInfoFromNameServer(arguments.text("topic"));
        consumers.put(arguments.text("name"), consumer);
        return true;
    }

    /** At once: what this consumer persists by itself is of queues that it was assigned. */
    private Object commit(Arguments arguments) throws Exception {
        named(arguments).getDefaultMQPullConsumerImpl().getOffsetStore()
            .updateConsumeOffsetToBroker(queue(arguments), arguments.number("offset", 0), false);
        return true;
    }

    private Object pull(Arguments arguments) throws Exception {
        long offset = arguments.number("offset", 0);
        PullResult result = named(arguments).pull(queue(arguments), "*", offset, 32);
        List<Object> messages = new ArrayList<>();
        if (result.getMsgFoundList() != null) {
            for (MessageExt message : result.getMsgFoundList()) {
                messages.add(Messages.describe(message));
            }
        }
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("status", result.getPullStatus().name());
        out.put("next", result.getNextBeginOffset());
        out.put("messages", messages);
        return out;
    }
}
