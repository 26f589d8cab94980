import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Runs Apache's Java client at the command of a test: one JSON object a line on stdin, one answer a line on stdout.
 *
 * <p>One JVM serves a whole test run, since starting one costs a second of CPU. The end of stdin ends the process, so
 * that a test run that dies leaves no JVM behind. Names of further command groups are the arguments of main: mqadmin
 * exists only beside the 5.5 client.
 */
public final class PeerDriver {
    private PeerDriver() {
    }

    public static void main(String[] names) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err);
        List<Commands> groups = new ArrayList<>();
        groups.add(new ProducerCommands());
        groups.add(new ConsumerCommands());
        groups.add(new LitePullCommands());
        groups.add(new TransactionCommands());
        for (String name : names) {
            groups.add((Commands) Class.forName(name).getDeclaredConstructor().newInstance());
        }
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            answers.println(Json.write(answer(groups, line)));
            answers.flush();
        }
        // A shutdown may wait for a broker that is gone; the tests that care have stopped their clients by name.
        Runtime.getRuntime().halt(0);
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> answer(List<Commands> groups, String line) {
        Map<String, Object> out = new LinkedHashMap<>();
        try {
            Map<String, Object> request = (Map<String, Object>) Json.parse(line);
            String command = request.get("command").toString();
            Object result = command.equals("ping") ? "pong" : null;
            for (Commands group : groups) {
                result = result == null ? group.run(command, new Arguments(request)) : result;
            }
            if (result == null) {
                throw new IllegalArgumentException("unknown command " + command);
            }
            out.put("result", result);
        } catch (Throwable failure) {
            Throwable cause = failure instanceof java.lang.reflect.InvocationTargetException ? failure.getCause() : failure;
            out.put("error", cause.getClass().getSimpleName() + ": " + cause.getMessage());
            try {
                out.put("code", cause.getClass().getMethod("getResponseCode").invoke(cause));
            } catch (ReflectiveOperationException withoutCode) {
                out.put("code", null);
            }
        }
        return out;
    }
}
