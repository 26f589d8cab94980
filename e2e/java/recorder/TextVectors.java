import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.common.message.MessageClientIDSetter;
import org.apache.rocketmq.common.message.MessageDecoder;

/** Texts inside records and headers: properties, ids, hashes. */
final class TextVectors {
    private TextVectors() {
    }

    static List<Object> properties() {
        List<Object> out = new ArrayList<>();
        String[][] inputs = {{"KEYS", "k1"}, {"TAGS", "TagA"}, {"n", "\u4e2d\ud83d\ude00"}, {"empty", ""}, {"WAIT", "true"}};
        for (int count = 0; count <= inputs.length; count++) {
            Map<String, String> properties = new LinkedHashMap<>();
            for (int i = 0; i < count; i++) {
                properties.put(inputs[i][0], inputs[i][1]);
            }
            Map<String, Object> vector = new LinkedHashMap<>();
            vector.put("properties", properties);
            vector.put("encoded", MessageDecoder.messageProperties2String(properties));
            out.add(vector);
        }
        return out;
    }

    static List<Object> parsedProperties() {
        String[] texts = {"", "K\u0001V\u0002", "K\u0001V", "K\u0001\u0002A\u0001B\u0002", "\u0001V\u0002A\u0001B", "KV\u0002A\u0001B\u0002",
            "K\u0001V\u0001W\u0002", "\u0002\u0002A\u0001B\u0002\u0002", "a\u0001b\u0002a\u0001c\u0002", "K\u0001V\u0002tail", "\u0001", "\u0002"};
        List<Object> out = new ArrayList<>();
        for (String text : texts) {
            Map<String, Object> vector = new LinkedHashMap<>();
            vector.put("encoded", text);
            vector.put("properties", new TreeMap<>(MessageDecoder.string2messageProperties(text)));
            out.add(vector);
        }
        return out;
    }

    static List<Object> messageIds() throws Exception {
        List<Object> out = new ArrayList<>();
        for (String host : new String[] {"10.0.0.1", "127.0.0.1", "255.254.253.252", "2001:db8:85a3::8a2e:370:7334"}) {
            for (long offset : new long[] {0L, 3L, 1L << 40, Long.MAX_VALUE}) {
                Map<String, Object> vector = new LinkedHashMap<>();
                vector.put("host", host);
                vector.put("port", 10911);
                vector.put("physical_offset", offset);
                vector.put("message_id", MessageDecoder.createMessageId(new InetSocketAddress(InetAddress.getByName(host), 10911), offset));
                out.add(vector);
            }
        }
        return out;
    }

    static List<Object> uniqueIds() {
        String[] ids = {"7F0000010B2C63947C6B0A1B2C3D0001", "0A000001FFFF18B4AAC20000000000FF",
            "FD0000000000000000000000000000021E574E0E2F2A79772C980000"};
        List<Object> out = new ArrayList<>();
        for (String id : ids) {
            Map<String, Object> vector = new LinkedHashMap<>();
            vector.put("unique_id", id);
            vector.put("host", MessageClientIDSetter.getIPStrFromID(id));
            vector.put("pid", MessageClientIDSetter.getPidFromID(id));
            out.add(vector);
        }
        return out;
    }

    static List<Object> hashes() {
        String[] texts = {"", "a", "TagA", "TagB", "*", "\ud83d\ude00", "\u4e2d\u6587", "TopicTest#key1", "polygenelubricants",
            "The quick brown fox jumps over the lazy dog", "\u0000", "\uffff", "TopicTest#7F0000010B2C63947C6B0A1B2C3D0001"};
        List<Object> out = new ArrayList<>();
        for (String text : texts) {
            Map<String, Object> vector = new LinkedHashMap<>();
            vector.put("text", text);
            vector.put("hash", text.hashCode());
            out.add(vector);
        }
        return out;
    }
}
