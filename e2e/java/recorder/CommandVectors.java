import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.remoting.protocol.LanguageCode;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.SerializeType;

/** RemotingCommand frames in both serializations, and header texts as other clients write them. */
final class CommandVectors {
    private static final String[][] NO_EXT = new String[0][];

    private CommandVectors() {
    }

    static List<Object> frames() {
        List<Object> out = new ArrayList<>();
        for (SerializeType type : SerializeType.values()) {
            out.add(frame("request without body", type, 105, 0, 0, LanguageCode.JAVA, 0, null, new String[][] {{"topic", "t"}}, null));
            out.add(frame("request with body", type, 105, 5, 0, LanguageCode.JAVA, 399, null, new String[][] {{"topic", "t1"}}, "B".getBytes(StandardCharsets.UTF_8)));
            out.add(frame("one-way request", type, 15, 77, 2, LanguageCode.GO, 317, null, new String[][] {{"consumerGroup", "g"}, {"queueId", "3"}}, null));
            out.add(frame("response with remark", type, 17, Integer.MAX_VALUE, 1, LanguageCode.JAVA, 513, "No topic route info: \u00fc\u4e2d\ud83d\ude00 \"quoted\" \\ \n", NO_EXT, null));
            out.add(frame("response without fields", type, 0, -5, 1, LanguageCode.CPP, 433, null, NO_EXT, null));
            out.add(frame("unicode fields", type, 310, 12, 0, LanguageCode.PYTHON, 513, null,
                new String[][] {{"b", "\u4e3b\u9898"}, {"i", "KEYS\u0001\ud83d\ude00\u0002TAGS\u0001\u00e9\u0002"}, {"empty", ""}}, new byte[] {0, 1, 2, (byte) 0xff}));
            out.add(frame("null field", type, 11, 13, 0, LanguageCode.JAVA, 513, null, new String[][] {{"topic", "t"}, {"subscription", null}}, new byte[0]));
            out.add(frame("response with body of 1000 bytes", type, 0, 14, 1, LanguageCode.RUST, 513, "FOUND",
                new String[][] {{"nextBeginOffset", "9223372036854775807"}, {"minOffset", "0"}}, new byte[1000]));
        }
        return out;
    }

    private static Object frame(String name, SerializeType type, int code, int opaque, int flag, LanguageCode language, int version,
        String remark, String[][] ext, byte[] body) {
        RemotingCommand command = RemotingCommand.createRequestCommand(code, null);
        command.setSerializeTypeCurrentRPC(type);
        command.setOpaque(opaque);
        command.setFlag(flag);
        command.setLanguage(language);
        command.setVersion(version);
        command.setRemark(remark);
        Map<String, Object> fields = new LinkedHashMap<>();
        for (String[] pair : ext) {
            command.addExtField(pair[0], pair[1]);
            fields.put(pair[0], pair[1]);
        }
        command.setBody(body);
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("name", name);
        out.put("serialization", type.name());
        out.put("code", code);
        out.put("language", language.name());
        out.put("language_code", (int) language.getCode());
        out.put("version", version);
        out.put("opaque", opaque);
        out.put("flag", flag);
        out.put("remark", remark);
        out.put("ext_fields", fields);
        out.put("body_hex", GoldenRecorder.hex(body == null ? new byte[0] : body));
        out.put("frame_hex", GoldenRecorder.hex(command.encode()));
        return out;
    }

    /** Header texts that other clients may send, with what Java 5.5.0 makes of them; `error` where it refuses. */
    static List<Object> headers() {
        String[] texts = {
            "{\"code\":105,\"language\":\"JAVA\",\"version\":399,\"opaque\":1,\"flag\":0,\"remark\":null,\"extFields\":{\"topic\":\"t\"}}",
            "{\"code\":105,\"language\":\"PYTHON\",\"opaque\":1,\"flag\":0,\"extFields\":{\"n\":5,\"big\":9223372036854775807,\"yes\":true,\"no\":false,\"real\":1.5}}",
            "{\"code\":105,\"opaque\":2,\"extFields\":{\"nothing\":null,\"topic\":\"t\"}}",
            "{\"code\":105,\"language\":\"JAVA\",\"opaque\":3,\"flag\":0,\"unknown\":{\"deep\":[1,2,{\"x\":null}]},\"serializeTypeCurrentRPC\":\"JSON\",\"version\":0}",
            "{\"code\":0,\"flag\":1,\"language\":\"JAVA\",\"opaque\":4,\"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}",
            "{\"code\":105,\"language\":\"KLINGON\",\"opaque\":5,\"flag\":0}",
            "{\"code\":105,\"language\":\"JAVA\",\"opaque\":6,\"flag\":0,\"remark\":\"\\u4e2d\\ud83d\\ude00\\/\\t\",\"extFields\":{\"k\\u0001\":\"v\\u0002\"}}",
            " { \"code\" : 105 , \"opaque\" : -7 , \"extFields\" : { } } ",
            "{\"code\":\"105\",\"opaque\":\"8\",\"flag\":\"0\"}",
            "{}",
            "{\"code\":105,\"opaque\":9,\"extFields\":{\"object\":{\"a\":1}}}",
            "{\"code\":105,\"opaque\":10,\"extFields\":null}",
            "{code:105,opaque:11}",
            "not json",
            "[]",
        };
        List<Object> out = new ArrayList<>();
        for (String text : texts) {
            byte[] header = text.getBytes(StandardCharsets.UTF_8);
            ByteBuffer frame = ByteBuffer.allocate(4 + header.length);
            frame.putInt(header.length);
            frame.put(header);
            frame.flip();
            Map<String, Object> vector = new LinkedHashMap<>();
            vector.put("header", text);
            try {
                RemotingCommand command = RemotingCommand.decode(frame);
                vector.put("code", command.getCode());
                vector.put("language", command.getLanguage() == null ? null : command.getLanguage().name());
                vector.put("version", command.getVersion());
                vector.put("opaque", command.getOpaque());
                vector.put("flag", command.getFlag());
                vector.put("remark", command.getRemark());
                vector.put("ext_fields", command.getExtFields() == null ? null : new TreeMap<>(command.getExtFields()));
            } catch (Exception refused) {
                vector.put("error", refused.getClass().getSimpleName());
            }
            out.add(vector);
        }
        return out;
    }
}
