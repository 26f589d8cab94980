import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.compression.CompressorFactory;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.common.message.MessageVersion;
import org.apache.rocketmq.common.sysflag.MessageSysFlag;
import org.apache.rocketmq.store.MessageExtEncoder;
import org.apache.rocketmq.store.config.MessageStoreConfig;

/** Stored records as the broker's encoder writes them, batch bodies as the client writes them, compressed bodies. */
final class RecordVectors {
    private static final String V4 = "1.2.3.4";
    private static final String V6 = "2001:db8:85a3::8a2e:370:7334";
    private static final byte[] HELLO = "hello".getBytes(StandardCharsets.UTF_8);

    private RecordVectors() {
    }

    static List<Object> records() throws Exception {
        List<Object> out = new ArrayList<>();
        out.add(record("plain", "t1", HELLO, "K\u0001V\u0002", V4, "10.0.0.1", 0, 0));
        out.add(record("properties without the last separator", "t1", HELLO, "KEYS\u0001k1 k2\u0002TAGS\u0001TagA", V4, "10.0.0.1", 0, 0));
        out.add(record("no properties", "t1", HELLO, "", V4, "10.0.0.1", 0, 0));
        out.add(record("born host v6", "topic", HELLO, "TAGS\u0001TagA\u0002", V6, "10.0.0.1", MessageSysFlag.BORNHOST_V6_FLAG, 2));
        out.add(record("store host v6", "topic", HELLO, "TAGS\u0001TagA\u0002", V4, V6, MessageSysFlag.STOREHOSTADDRESS_V6_FLAG, 2));
        out.add(record("both hosts v6", "topic", HELLO, "TAGS\u0001TagA\u0002", V6, V6,
            MessageSysFlag.BORNHOST_V6_FLAG | MessageSysFlag.STOREHOSTADDRESS_V6_FLAG, 16));
        byte[] packed = CompressorFactory.getCompressor(CompressionType.ZLIB).compress(new byte[5000], 5);
        out.add(record("compressed flag", "topic", packed, "KEYS\u0001k\u0002", V4, "10.0.0.1",
            MessageSysFlag.COMPRESSED_FLAG | MessageSysFlag.COMPRESSION_ZLIB_TYPE, 0));
        out.add(record("prepared transaction", "RMQ_SYS_TRANS_HALF_TOPIC", HELLO, "TRAN_MSG\u0001true\u0002PGROUP\u0001pg\u0002", V4, "10.0.0.1",
            MessageSysFlag.TRANSACTION_PREPARED_TYPE, 0));
        out.add(record("committed transaction", "t1", HELLO, "TRAN_MSG\u0001true\u0002", V4, "10.0.0.1", MessageSysFlag.TRANSACTION_COMMIT_TYPE, 0));
        out.add(record("unicode", "t1", "\u4e2d\u6587\ud83d\ude00".getBytes(StandardCharsets.UTF_8), "KEYS\u0001\u00fc\u4e2d\ud83d\ude00\u0002", V4, "10.0.0.1", 0, 0));
        out.add(record("topic of 127 bytes", "t".repeat(127), HELLO, "K\u0001V\u0002", V4, "10.0.0.1", 0, 0));
        out.add(record("topic of 200 bytes, second magic", "t".repeat(200), HELLO, "K\u0001V\u0002", V4, "10.0.0.1", 0, 0));
        out.add(record("empty body", "t1", new byte[0], "K\u0001V\u0002", V4, "10.0.0.1", 0, 0));
        return out;
    }

    private static Object record(String name, String topic, byte[] body, String properties, String bornHost, String storeHost,
        int systemFlag, int reconsumeTimes) throws Exception {
        MessageExtBrokerInner message = new MessageExtBrokerInner();
        message.setTopic(topic);
        message.setBody(body);
        message.setPropertiesString(properties);
        message.setQueueId(1);
        message.setFlag(0);
        message.setSysFlag(systemFlag);
        message.setBornTimestamp(1700000000123L);
        message.setBornHost(new InetSocketAddress(InetAddress.getByName(bornHost), 5));
        message.setStoreTimestamp(1700000000456L);
        message.setStoreHost(new InetSocketAddress(InetAddress.getByName(storeHost), 10911));
        message.setReconsumeTimes(reconsumeTimes);
        message.setPreparedTransactionOffset(systemFlag == MessageSysFlag.TRANSACTION_COMMIT_TYPE ? 987654321L : 0L);
        message.setVersion(topic.length() > Byte.MAX_VALUE ? MessageVersion.MESSAGE_VERSION_V2 : MessageVersion.MESSAGE_VERSION_V1);
        message.setBodyCRC(org.apache.rocketmq.common.UtilAll.crc32(body));
        MessageExtEncoder encoder = new MessageExtEncoder(1 << 20, new MessageStoreConfig());
        if (encoder.encode(message) != null) {
            throw new IllegalStateException(name + " was refused");
        }
        byte[] record = bytes(encoder.getEncoderBuffer());
        // The append fills in what is known only under its lock: queue offset at 20, physical offset at 28.
        ByteBuffer.wrap(record).putLong(20, 2L).putLong(28, 3L);
        MessageExt decoded = MessageDecoder.decode(ByteBuffer.wrap(record), true, false);
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("name", name);
        out.put("topic", topic);
        out.put("body_hex", GoldenRecorder.hex(body));
        out.put("body_crc", decoded.getBodyCRC());
        out.put("properties", properties);
        out.put("queue_id", 1);
        out.put("flag", 0);
        out.put("queue_offset", 2);
        out.put("physical_offset", 3);
        out.put("system_flag", systemFlag);
        out.put("born_timestamp_ms", 1700000000123L);
        out.put("born_host", bornHost);
        out.put("born_port", 5);
        out.put("store_timestamp_ms", 1700000000456L);
        out.put("store_host", storeHost);
        out.put("store_port", 10911);
        out.put("reconsume_times", reconsumeTimes);
        out.put("prepared_transaction_offset", message.getPreparedTransactionOffset());
        out.put("version", message.getVersion().name());
        out.put("decoded_message_id", decoded.getMsgId());
        out.put("decoded_properties", decoded.getProperties() == null ? null : new java.util.TreeMap<>(decoded.getProperties()));
        out.put("record_hex", GoldenRecorder.hex(record));
        return out;
    }

    private static byte[] bytes(ByteBuffer buffer) {
        ByteBuffer view = buffer.duplicate();
        // Some releases hand the buffer over flipped, some not: the record says its own size.
        int size = view.getInt(0);
        byte[] out = new byte[size];
        view.limit(size).position(0);
        view.get(out);
        return out;
    }

    static List<Object> batches() {
        List<Object> out = new ArrayList<>();
        List<Message> messages = new ArrayList<>();
        List<Object> inner = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            Message message = new Message("t1", ("body " + i).getBytes(StandardCharsets.UTF_8));
            message.setFlag(i);
            message.putUserProperty("n", String.valueOf(i));
            messages.add(message);
            Map<String, Object> one = new LinkedHashMap<>();
            one.put("flag", i);
            one.put("body_hex", GoldenRecorder.hex(message.getBody()));
            one.put("properties", MessageDecoder.messageProperties2String(message.getProperties()));
            inner.add(one);
        }
        Map<String, Object> vector = new LinkedHashMap<>();
        vector.put("name", "three messages");
        vector.put("messages", inner);
        vector.put("body_hex", GoldenRecorder.hex(MessageDecoder.encodeMessages(messages)));
        out.add(vector);
        return out;
    }

    static List<Object> compressions() throws Exception {
        byte[] plain = new byte[6000];
        for (int i = 0; i < plain.length; i++) {
            plain[i] = (byte) ('a' + i % 23);
        }
        List<Object> out = new ArrayList<>();
        for (CompressionType type : CompressionType.values()) {
            Map<String, Object> vector = new LinkedHashMap<>();
            vector.put("type", type.name());
            vector.put("system_flag_bits", MessageSysFlag.COMPRESSED_FLAG | type.getCompressionFlag());
            vector.put("plain_size", plain.length);
            vector.put("plain_rule", "byte i is 'a' + i % 23");
            vector.put("compressed_hex", GoldenRecorder.hex(CompressorFactory.getCompressor(type).compress(plain, 5)));
            out.add(vector);
        }
        return out;
    }
}
