import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

/**
 * An application that sends without end: numbered messages by the producer's plain synchronous send, with the client's own timeout,
 * retries and choice of queues. Times are System.nanoTime, which on Linux is the same clock as Python's time.monotonic.
 */
final class StreamCommands implements Commands {
    private static final int RECORDS_MAX = 2_000_000;
    private static final int ERROR_SIZE_MAX = 300;
    /** After a refusal an application that is none of a test rests as well; without it this one would take a core from the brokers. */
    private static final long REST_MS = 100;
    private final Map<String, Stream> streams = new HashMap<>();

    @Override
    public Object run(String command, Arguments arguments) throws Exception {
        switch (command) {
            case "stream.start": return start(arguments);
            case "stream.take": return streams.get(arguments.text("name")).take();
            case "stream.stop": return streams.get(arguments.text("name")).stop();
            default: return null;
        }
    }

    private Object start(Arguments arguments) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(arguments.text("group"));
        producer.setNamesrvAddr(arguments.text("namesrv"));
        producer.setInstanceName(arguments.text("name"));
        producer.start();
        Stream stream = new Stream(producer, arguments.text("topic"), arguments.number("pause_ms", 5));
        streams.put(arguments.text("name"), stream);
        for (int i = 0; i < arguments.number("threads", 2); i++) {
            stream.begin();
        }
        return true;
    }

    private static final class Stream {
        private final DefaultMQProducer producer;
        private final String topic;
        private final long pauseMs;
        private final AtomicLong numbers = new AtomicLong();
        private final List<Thread> threads = new ArrayList<>();
        private List<Object> records = new ArrayList<>();
        private volatile boolean isStopping;

        Stream(DefaultMQProducer producer, String topic, long pauseMs) {
            this.producer = producer;
            this.topic = topic;
            this.pauseMs = pauseMs;
        }

        void begin() {
            Thread thread = new Thread(this::send, "stream-" + topic + "-" + threads.size());
            threads.add(thread);
            thread.start();
        }

        /** What was sent since the last call; a send that is under way is not among it. */
        synchronized Object take() {
            List<Object> taken = records;
            records = new ArrayList<>();
            return taken;
        }

        Object stop() throws InterruptedException {
            isStopping = true;
            for (Thread thread : threads) {
                thread.join();
            }
            producer.shutdown();
            return take();
        }

        private void send() {
            while (!isStopping) {
                long number = numbers.getAndIncrement();
                Map<String, Object> record = new LinkedHashMap<>();
                record.put("number", number);
                record.put("sent_ns", System.nanoTime());
                try {
                    Message message = new Message(topic, "", "n" + number, ("<" + number + ">..........................").getBytes());
                    SendResult result = producer.send(message);
                    record.put("status", result.getSendStatus().name());
                    record.put("queue_id", result.getMessageQueue().getQueueId());
                    record.put("queue_offset", result.getQueueOffset());
                } catch (InterruptedException interrupted) {
                    return;
                } catch (Exception failure) {
                    String text = failure.toString();
                    record.put("status", "FAILED");
                    record.put("error", text.substring(0, Math.min(text.length(), ERROR_SIZE_MAX)));
                }
                record.put("answered_ns", System.nanoTime());
                keep(record);
                try {
                    Thread.sleep(record.get("status").equals("FAILED") ? REST_MS : pauseMs);
                } catch (InterruptedException interrupted) {
                    return;
                }
            }
        }

        private synchronized void keep(Map<String, Object> record) {
            if (records.size() >= RECORDS_MAX) {
                throw new IllegalStateException("nobody takes the records of " + topic);
            }
            records.add(record);
        }
    }
}
