import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The old pull consumer, whose user asks for each batch and keeps the offsets. */
final class PullCommands implements Commands {
    private final Map<String, DefaultMQPullConsumer> consumers = new ConcurrentHashMap<>();

    @Override
    public Object run(String command, Arguments arguments) throws Exception {
        switch (command) {
            case "pull.start": return start(arguments);
            case "pull.running": return consumers.containsKey(arguments.text("name"));
            case "pull.stop": consumers.remove(arguments.text("name")).shutdown(); return true;
            case "pull.pull": return pull(arguments);
            case "pull.commit": commit(arguments); return true;
            case "pull.committed": return named(arguments).fetchConsumeOffset(queue(arguments), true);
            default: return null;
        }
    }

    private DefaultMQPullConsumer named(Arguments arguments) {
        return consumers.get(arguments.text("name"));
    }

    private MessageQueue queue(Arguments arguments) throws Exception {
        for (MessageQueue queue : named(arguments).fetchSubscribeMessageQueues(arguments.text("topic"))) {
            if (queue.getQueueId() == arguments.number("queue_id", 0)) {
                return queue;
            }
        }
        throw new IllegalArgumentException("no queue " + arguments.number("queue_id", 0));
    }

    private Object start(Arguments arguments) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(arguments.text("group"));
        consumer.setNamesrvAddr(arguments.text("namesrv"));
        consumer.setInstanceName(arguments.text("name"));
        consumer.start();
        consumers.put(arguments.text("name"), consumer);
        return true;
    }

    /** Straight to the broker: the consumer persists by itself only offsets of queues that it was assigned. */
    private void commit(Arguments arguments) throws Exception {
        named(arguments).getDefaultMQPullConsumerImpl().getOffsetStore()
            .updateConsumeOffsetToBroker(queue(arguments), arguments.number("offset", 0), false);
    }

    private Object pull(Arguments arguments) throws Exception {
        DefaultMQPullConsumer consumer = named(arguments);
        String expression = arguments.text("expression", "*");
        long offset = arguments.number("offset", 0);
        int count = (int) arguments.number("count", 32);
        PullResult result = arguments.flag("block")
            ? consumer.pullBlockIfNotFound(queue(arguments), expression, offset, count)
            : consumer.pull(queue(arguments), expression, offset, count);
        List<Object> messages = new ArrayList<>();
        if (result.getMsgFoundList() != null) {
            for (MessageExt message : result.getMsgFoundList()) {
                messages.add(Messages.describe(message));
            }
        }
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("status", result.getPullStatus().name());
        out.put("next", result.getNextBeginOffset());
        out.put("min", result.getMinOffset());
        out.put("max", result.getMaxOffset());
        out.put("messages", messages);
        return out;
    }
}
