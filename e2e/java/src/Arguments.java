import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** One decoded command line, with typed access and defaults. */
final class Arguments {
    private final Map<String, Object> values;

    Arguments(Map<String, Object> values) {
        this.values = values;
    }

    String text(String name) {
        Object value = values.get(name);
        if (value == null) {
            throw new IllegalArgumentException("missing argument " + name);
        }
        return value.toString();
    }

    String text(String name, String otherwise) {
        Object value = values.get(name);
        return value == null ? otherwise : value.toString();
    }

    long number(String name, long otherwise) {
        Object value = values.get(name);
        return value == null ? otherwise : ((Number) value).longValue();
    }

    boolean flag(String name) {
        return Boolean.TRUE.equals(values.get(name));
    }

    boolean has(String name) {
        return values.get(name) != null;
    }

    @SuppressWarnings("unchecked")
    List<Arguments> list(String name) {
        List<Arguments> out = new ArrayList<>();
        for (Object item : (List<Object>) values.getOrDefault(name, Collections.emptyList())) {
            out.add(new Arguments((Map<String, Object>) item));
        }
        return out;
    }

    @SuppressWarnings("unchecked")
    List<Object> items(String name) {
        return (List<Object>) values.getOrDefault(name, Collections.emptyList());
    }

    @SuppressWarnings("unchecked")
    Map<String, Object> map(String name) {
        return (Map<String, Object>) values.getOrDefault(name, Collections.emptyMap());
    }

    /** The message body: `body` as UTF-8, else `body_base64`, else `body_size` bytes of one repeated letter. */
    byte[] body() {
        if (has("body")) {
            return text("body").getBytes(StandardCharsets.UTF_8);
        }
        if (has("body_base64")) {
            return Base64.getDecoder().decode(text("body_base64"));
        }
        byte[] body = new byte[(int) number("body_size", 0)];
        for (int i = 0; i < body.length; i++) {
            body[i] = (byte) ('a' + i % 23);
        }
        return body;
    }
}
