import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Push consumers which remember what they were given. */
final class ConsumerCommands implements Commands {
    private static final class Consumer {
        final DefaultMQPushConsumer push;
        final List<Object> received = new ArrayList<>();
        final Map<String, Integer> failures = new ConcurrentHashMap<>();
        final long failTimes;
        volatile boolean failing = true;

        Consumer(DefaultMQPushConsumer push, long failTimes) {
            this.push = push;
            this.failTimes = failTimes;
        }

        /** Remember one message; true if the listener shall report success. */
        boolean take(MessageExt message, int batchSize) {
            Map<String, Object> seen = Messages.describe(message);
            seen.put("received_ms", System.currentTimeMillis());
            seen.put("batch_size", batchSize);
            seen.put("thread", Thread.currentThread().getName());
            synchronized (received) {
                received.add(seen);
            }
            return !failing || failures.merge(message.getMsgId(), 1, Integer::sum) > failTimes;
        }
    }

    private final Map<String, Consumer> consumers = new ConcurrentHashMap<>();

    @Override
    public Object run(String command, Arguments arguments) throws Exception {
        switch (command) {
            case "consumer.start": return start(arguments);
            case "consumer.received": return received(arguments);
            case "consumer.assigned": return assigned(arguments);
            case "consumer.suspend": named(arguments).push.suspend(); return true;
            case "consumer.resume": named(arguments).push.resume(); return true;
            case "consumer.stop": consumers.remove(arguments.text("name")).push.shutdown(); return true;
            case "consumer.running": return consumers.containsKey(arguments.text("name"));
            default: return null;
        }
    }

    private Consumer named(Arguments arguments) {
        Consumer consumer = consumers.get(arguments.text("name"));
        if (consumer == null) {
            throw new IllegalArgumentException("no consumer named " + arguments.text("name"));
        }
        return consumer;
    }

    private Object start(Arguments arguments) throws Exception {
        DefaultMQPushConsumer push = new DefaultMQPushConsumer(arguments.text("group"), arguments.flag("trace"), null);
        Consumer consumer = new Consumer(push, arguments.number("fail_times", 0));
        push.setNamesrvAddr(arguments.text("namesrv"));
        push.setInstanceName(arguments.text("name"));
        if (arguments.has("namespace")) {
            push.setNamespace(arguments.text("namespace"));
        }
        if (arguments.has("strategy")) {
            push.setAllocateMessageQueueStrategy(Strategies.named(arguments));
        }
        push.setConsumeMessageBatchMaxSize((int) arguments.number("batch_size", 1));
        push.setVipChannelEnabled(arguments.flag("vip"));
        push.setPollNameServerInterval((int) arguments.number("route_interval_ms", 1000));
        push.setConsumeFromWhere(ConsumeFromWhere.valueOf("CONSUME_FROM_" + arguments.text("from", "FIRST_OFFSET")));
        if (arguments.has("timestamp")) {
            push.setConsumeTimestamp(arguments.text("timestamp"));
        }
        push.setMaxReconsumeTimes((int) arguments.number("reconsume_max", -1));
        push.setConsumeThreadMin((int) arguments.number("threads", 4));
        push.setConsumeThreadMax((int) arguments.number("threads", 4));
        if (arguments.flag("broker_rebalance")) {
            // 5.x only: the broker assigns queues, and says whether they are pulled or popped.
            DefaultMQPushConsumer.class.getMethod("setClientRebalance", boolean.class).invoke(push, false);
            DefaultMQPushConsumer.class.getMethod("setPopInvisibleTime", long.class).invoke(push, arguments.number("invisible_ms", 60000));
        }
        if (arguments.flag("broadcast")) {
            // MessageModel moved to another package in 5.x.
            for (java.lang.reflect.Method method : DefaultMQPushConsumer.class.getMethods()) {
                if (method.getName().equals("setMessageModel")) {
                    for (Object model : method.getParameterTypes()[0].getEnumConstants()) {
                        if (model.toString().equals("BROADCASTING")) {
                            method.invoke(push, model);
                        }
                    }
                }
            }
        }
        for (Arguments subscription : arguments.list("subscriptions")) {
            if (subscription.has("sql")) {
                push.subscribe(subscription.text("topic"), MessageSelector.bySql(subscription.text("sql")));
            } else {
                push.subscribe(subscription.text("topic"), subscription.text("expression", "*"));
            }
        }
        if (arguments.flag("orderly")) {
            push.setSuspendCurrentQueueTimeMillis(arguments.number("suspend_ms", 100));
            push.registerMessageListener((MessageListenerOrderly) (List<MessageExt> messages, ConsumeOrderlyContext context) -> {
                boolean well = true;
                for (MessageExt message : messages) {
                    well &= consumer.take(message, messages.size());
                }
                return well ? ConsumeOrderlyStatus.SUCCESS : ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            });
        } else {
            push.registerMessageListener((MessageListenerConcurrently) (List<MessageExt> messages, ConsumeConcurrentlyContext context) -> {
                boolean well = true;
                for (MessageExt message : messages) {
                    well &= consumer.take(message, messages.size());
                }
                context.setDelayLevelWhenNextConsume((int) arguments.number("delay_level_when_next", 0));
                return well ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
            });
        }
        push.start();
        consumers.put(arguments.text("name"), consumer);
        return true;
    }

    private Object received(Arguments arguments) {
        Consumer consumer = named(arguments);
        synchronized (consumer.received) {
            int since = (int) Math.min(arguments.number("since", 0), consumer.received.size());
            return new ArrayList<>(consumer.received.subList(since, consumer.received.size()));
        }
    }

    private Object assigned(Arguments arguments) {
        List<Object> out = new ArrayList<>();
        for (MessageQueue queue : named(arguments).push.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet()) {
            if (queue.getTopic().equals(arguments.text("topic"))) {
                out.add(queue.getBrokerName() + ":" + queue.getQueueId());
            }
        }
        return out;
    }
}
