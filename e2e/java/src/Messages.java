import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.CRC32;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages to and from the driver's JSON. */
final class Messages {
    private static final int BODY_SIZE_SHOWN_MAX = 2048;

    private Messages() {
    }

    static Message build(String topic, Arguments arguments) throws Exception {
        Message message = new Message(topic, arguments.body());
        if (arguments.has("tag")) {
            message.setTags(arguments.text("tag"));
        }
        if (arguments.has("keys")) {
            message.setKeys(arguments.text("keys"));
        }
        if (arguments.has("delay_level")) {
            message.setDelayTimeLevel((int) arguments.number("delay_level", 0));
        }
        for (String setter : new String[] {"setDelayTimeMs", "setDelayTimeSec", "setDeliverTimeMs"}) {
            // Clients of 4.9 know no timer messages.
            if (arguments.has(setter)) {
                Message.class.getMethod(setter, long.class).invoke(message, arguments.number(setter, 0));
            }
        }
        for (Map.Entry<String, Object> property : arguments.map("properties").entrySet()) {
            message.putUserProperty(property.getKey(), property.getValue().toString());
        }
        return message;
    }

    static Map<String, Object> describe(MessageExt message) {
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("topic", message.getTopic());
        out.put("broker_name", message.getBrokerName());
        out.put("queue_id", message.getQueueId());
        out.put("queue_offset", message.getQueueOffset());
        out.put("physical_offset", message.getCommitLogOffset());
        out.put("message_id", message.getMsgId());
        out.put("store_size", message.getStoreSize());
        out.put("system_flag", message.getSysFlag());
        out.put("born_timestamp", message.getBornTimestamp());
        out.put("store_timestamp", message.getStoreTimestamp());
        out.put("store_host", String.valueOf(message.getStoreHost()));
        out.put("reconsume_times", message.getReconsumeTimes());
        out.put("tags", message.getTags());
        out.put("keys", message.getKeys());
        out.put("properties", new TreeMap<>(message.getProperties()));
        byte[] body = message.getBody() == null ? new byte[0] : message.getBody();
        CRC32 crc = new CRC32();
        crc.update(body);
        out.put("body_size", body.length);
        out.put("body_crc32", crc.getValue());
        if (body.length <= BODY_SIZE_SHOWN_MAX) {
            out.put("body", new String(body, StandardCharsets.UTF_8));
        }
        return out;
    }
}
