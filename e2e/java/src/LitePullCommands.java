import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Lite pull consumers: subscribe or assign, poll, seek, commit. */
final class LitePullCommands implements Commands {
    private final Map<String, DefaultLitePullConsumer> consumers = new ConcurrentHashMap<>();

    @Override
    public Object run(String command, Arguments arguments) throws Exception {
        switch (command) {
            case "lite.start": return start(arguments);
            case "lite.poll": return poll(arguments);
            case "lite.seek": return seek(arguments);
            case "lite.commit": named(arguments).commitSync(); return true;
            case "lite.pause": named(arguments).pause(named(arguments).fetchMessageQueues(arguments.text("topic"))); return true;
            case "lite.resume": named(arguments).resume(named(arguments).fetchMessageQueues(arguments.text("topic"))); return true;
            case "lite.committed": return committed(arguments);
            case "lite.stop": consumers.remove(arguments.text("name")).shutdown(); return true;
            case "lite.running": return consumers.containsKey(arguments.text("name"));
            default: return null;
        }
    }

    private DefaultLitePullConsumer named(Arguments arguments) {
        DefaultLitePullConsumer consumer = consumers.get(arguments.text("name"));
        if (consumer == null) {
            throw new IllegalArgumentException("no lite pull consumer named " + arguments.text("name"));
        }
        return consumer;
    }

    private Object start(Arguments arguments) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(arguments.text("group"));
        consumer.setNamesrvAddr(arguments.text("namesrv"));
        consumer.setInstanceName(arguments.text("name"));
        consumer.setAutoCommit(!arguments.flag("manual_commit"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.valueOf("CONSUME_FROM_" + arguments.text("from", "FIRST_OFFSET")));
        if (arguments.flag("assign")) {
            consumer.start();
            consumer.assign(consumer.fetchMessageQueues(arguments.text("topic")));
        } else {
            consumer.subscribe(arguments.text("topic"), arguments.text("expression", "*"));
            consumer.start();
        }
        consumers.put(arguments.text("name"), consumer);
        return true;
    }

    private Object poll(Arguments arguments) {
        List<Object> out = new ArrayList<>();
        for (MessageExt message : named(arguments).poll(arguments.number("timeout_ms", 1000))) {
            out.add(Messages.describe(message));
        }
        return out;
    }

    private Object seek(Arguments arguments) throws Exception {
        DefaultLitePullConsumer consumer = named(arguments);
        int moved = 0;
        for (MessageQueue queue : consumer.fetchMessageQueues(arguments.text("topic"))) {
            if (arguments.has("offset")) {
                consumer.seek(queue, arguments.number("offset", 0));
            } else if (arguments.has("timestamp_ms")) {
                consumer.seek(queue, consumer.offsetForTimestamp(queue, arguments.number("timestamp_ms", 0)));
            } else if (arguments.flag("end")) {
                consumer.seekToEnd(queue);
            } else {
                consumer.seekToBegin(queue);
            }
            moved++;
        }
        return moved;
    }

    private Object committed(Arguments arguments) throws Exception {
        Map<String, Object> out = new HashMap<>();
        DefaultLitePullConsumer consumer = named(arguments);
        for (MessageQueue queue : consumer.fetchMessageQueues(arguments.text("topic"))) {
            out.put(queue.getBrokerName() + ":" + queue.getQueueId(), consumer.committed(queue));
        }
        return out;
    }
}
