import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** Writes one JSON object of golden vectors, made by Apache's own classes from fixed inputs, to stdout. */
public final class GoldenRecorder {
    private GoldenRecorder() {
    }

    public static void main(String[] none) throws Exception {
        java.io.PrintStream out = System.out;
        System.setOut(System.err);
        Map<String, Object> vectors = new LinkedHashMap<>();
        vectors.put("frames", CommandVectors.frames());
        vectors.put("headers", CommandVectors.headers());
        vectors.put("records", RecordVectors.records());
        vectors.put("batches", RecordVectors.batches());
        vectors.put("compressions", RecordVectors.compressions());
        vectors.put("properties", TextVectors.properties());
        vectors.put("parsed_properties", TextVectors.parsedProperties());
        vectors.put("message_ids", TextVectors.messageIds());
        vectors.put("unique_ids", TextVectors.uniqueIds());
        vectors.put("java_hashes", TextVectors.hashes());
        vectors.put("bodies", BodyVectors.bodies());
        out.println(Json.write(vectors));
        out.flush();
        Runtime.getRuntime().halt(0);
    }

    static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder(bytes.length * 2);
        for (byte b : bytes) {
            text.append(String.format("%02x", b));
        }
        return text.toString();
    }

    static String hex(ByteBuffer buffer) {
        ByteBuffer view = buffer.duplicate();
        byte[] bytes = new byte[view.remaining()];
        view.get(bytes);
        return hex(bytes);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
