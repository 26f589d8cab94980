import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.AckCallback;
import org.apache.rocketmq.client.consumer.AckResult;
import org.apache.rocketmq.client.consumer.PopCallback;
import org.apache.rocketmq.client.consumer.PopResult;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.header.AckMessageRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.ChangeInvisibleTimeRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.ExtraInfoUtil;
import org.apache.rocketmq.remoting.protocol.header.NotificationRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.NotificationResponseHeader;
import org.apache.rocketmq.remoting.protocol.header.PopMessageRequestHeader;

/** POP request by request, through the client's own codec: pop, acknowledge one or many, change the invisible time. */
public final class PopCommands implements Commands {
    private static final long TIMEOUT_MS = 30_000;
    private final Map<String, DefaultMQProducer> clients = new ConcurrentHashMap<>();

    @Override
    public Object run(String command, Arguments arguments) throws Exception {
        switch (command) {
            case "pop.open": return open(arguments);
            case "pop.running": return clients.containsKey(arguments.text("name"));
            case "pop.stop": clients.remove(arguments.text("name")).shutdown(); return true;
            case "pop.pop": return pop(arguments);
            case "pop.ack": return acknowledge(arguments);
            case "pop.ack_batch": return acknowledgeBatch(arguments);
            case "pop.change": return change(arguments);
            case "pop.notification": return notification(arguments);
            default: return null;
        }
    }

    private Object open(Arguments arguments) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("pop-" + arguments.text("name"));
        producer.setNamesrvAddr(arguments.text("namesrv"));
        producer.setInstanceName(arguments.text("name"));
        producer.start();
        clients.put(arguments.text("name"), producer);
        return true;
    }

    private MQClientAPIImpl api(Arguments arguments) {
        return clients.get(arguments.text("name")).getDefaultMQProducerImpl().getMqClientFactory().getMQClientAPIImpl();
    }

    private Object pop(Arguments arguments) throws Exception {
        PopMessageRequestHeader header = new PopMessageRequestHeader();
        header.setConsumerGroup(arguments.text("group"));
        header.setTopic(arguments.text("topic"));
        header.setQueueId((int) arguments.number("queue_id", -1));
        header.setMaxMsgNums((int) arguments.number("count", 32));
        header.setInvisibleTime(arguments.number("invisible_ms", 60_000));
        header.setPollTime(arguments.number("poll_ms", 10_000));
        header.setBornTime(System.currentTimeMillis());
        header.setInitMode((int) arguments.number("init_mode", 0));
        header.setExpType("TAG");
        header.setExp(arguments.text("expression", "*"));
        header.setOrder(arguments.flag("order"));
        if (arguments.has("attempt_id")) {
            header.setAttemptId(arguments.text("attempt_id"));
        }
        CompletableFuture<PopResult> future = new CompletableFuture<>();
        api(arguments).popMessageAsync(arguments.text("broker_name"), arguments.text("broker"), header, TIMEOUT_MS, new PopCallback() {
            @Override
            public void onSuccess(PopResult result) {
                future.complete(result);
            }

            @Override
            public void onException(Throwable failure) {
                future.completeExceptionally(failure);
            }
        });
        PopResult result = future.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        List<Object> messages = new ArrayList<>();
        if (result.getMsgFoundList() != null) {
            for (MessageExt message : result.getMsgFoundList()) {
                messages.add(Messages.describe(message));
            }
        }
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("status", result.getPopStatus().name());
        out.put("pop_time", result.getPopTime());
        out.put("rest", result.getRestNum());
        out.put("messages", messages);
        return out;
    }

    private Object acknowledge(Arguments arguments) throws Exception {
        String handle = arguments.text("handle");
        String[] parts = ExtraInfoUtil.split(handle);
        AckMessageRequestHeader header = new AckMessageRequestHeader();
        header.setConsumerGroup(arguments.text("group"));
        header.setTopic(ExtraInfoUtil.getRealTopic(parts, arguments.text("topic"), arguments.text("group")));
        header.setQueueId(ExtraInfoUtil.getQueueId(parts));
        header.setOffset(ExtraInfoUtil.getQueueOffset(parts));
        header.setExtraInfo(handle);
        Answer answer = new Answer();
        api(arguments).ackMessageAsync(arguments.text("broker"), TIMEOUT_MS, answer, header);
        return answer.describe();
    }

    private Object acknowledgeBatch(Arguments arguments) throws Exception {
        List<String> handles = new ArrayList<>();
        for (Object handle : arguments.items("handles")) {
            handles.add(handle.toString());
        }
        Answer answer = new Answer();
        api(arguments).batchAckMessageAsync(
            arguments.text("broker"), TIMEOUT_MS, answer, arguments.text("topic"), arguments.text("group"), handles);
        return answer.describe();
    }

    private Object change(Arguments arguments) throws Exception {
        String handle = arguments.text("handle");
        String[] parts = ExtraInfoUtil.split(handle);
        ChangeInvisibleTimeRequestHeader header = new ChangeInvisibleTimeRequestHeader();
        header.setConsumerGroup(arguments.text("group"));
        header.setTopic(ExtraInfoUtil.getRealTopic(parts, arguments.text("topic"), arguments.text("group")));
        header.setQueueId(ExtraInfoUtil.getQueueId(parts));
        header.setOffset(ExtraInfoUtil.getQueueOffset(parts));
        header.setExtraInfo(handle);
        header.setInvisibleTime(arguments.number("invisible_ms", 60_000));
        Answer answer = new Answer();
        api(arguments).changeInvisibleTimeAsync(arguments.text("broker_name"), arguments.text("broker"), header, TIMEOUT_MS, answer);
        return answer.describe();
    }

    private Object notification(Arguments arguments) throws Exception {
        NotificationRequestHeader header = new NotificationRequestHeader();
        header.setConsumerGroup(arguments.text("group"));
        header.setTopic(arguments.text("topic"));
        header.setQueueId((int) arguments.number("queue_id", -1));
        header.setPollTime(arguments.number("poll_ms", 10_000));
        header.setBornTime(System.currentTimeMillis());
        RemotingCommand request = RemotingCommand.createRequestCommand(RequestCode.NOTIFICATION, header);
        RemotingCommand answer = api(arguments).getRemotingClient().invokeSync(arguments.text("broker"), request, TIMEOUT_MS);
        return ((NotificationResponseHeader) answer.decodeCommandCustomHeader(NotificationResponseHeader.class)).isHasMsg();
    }

    /** Waits for the one answer of an acknowledgement. */
    private static final class Answer implements AckCallback {
        private final CompletableFuture<AckResult> future = new CompletableFuture<>();

        @Override
        public void onSuccess(AckResult result) {
            future.complete(result);
        }

        @Override
        public void onException(Throwable failure) {
            future.completeExceptionally(failure);
        }

        Object describe() throws Exception {
            AckResult result = future.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
            Map<String, Object> out = new LinkedHashMap<>();
            out.put("status", result.getStatus().name());
            out.put("handle", result.getExtraInfo());
            out.put("pop_time", result.getPopTime());
            return out;
        }
    }
}
