import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Runs Apache's Java client at the command of a test: one JSON object a line on stdin, one answer a line on stdout.
 *
 * <p>One JVM serves a whole test run, since starting one costs a second of CPU. The end of stdin ends the process, so
 * that a test run that dies leaves no JVM behind. Names of further command groups are the arguments of main: mqadmin
 * exists only beside the 5.5 client.
 *
 * <p>A command that is "detached" is answered at once and run beside those that follow: the shutdown of a client waits up
 * to three seconds, which the next test need not.
 */
public final class PeerDriver {
    /** So many clients are shut down at a time. */
    private static final int DETACHED_THREADS = 8;

    private PeerDriver() {
    }

    @SuppressWarnings("unchecked")
    public static void main(String[] names) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err);
        List<Commands> groups = new ArrayList<>();
        groups.add(new ProducerCommands());
        groups.add(new ConsumerCommands());
        groups.add(new LitePullCommands());
        groups.add(new PullCommands());
        groups.add(new LightQueueCommands());
        groups.add(new TransactionCommands());
        for (String name : names) {
            groups.add((Commands) Class.forName(name).getDeclaredConstructor().newInstance());
        }
        ExecutorService detached = Executors.newFixedThreadPool(DETACHED_THREADS);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Arguments request = new Arguments((Map<String, Object>) Json.parse(line));
            if (request.flag("detached")) {
                detached.execute(() -> System.err.println(request.text("command") + ": " + answer(groups, request)));
                answers.println(Json.write(Collections.singletonMap("result", true)));
            } else {
                answers.println(Json.write(answer(groups, request)));
            }
            answers.flush();
        }
        // A shutdown may wait for a broker that is gone; the tests that care have stopped their clients by name.
        Runtime.getRuntime().halt(0);
    }

    private static Map<String, Object> answer(List<Commands> groups, Arguments request) {
        Map<String, Object> out = new LinkedHashMap<>();
        try {
            String command = request.text("command");
            Object result = command.equals("ping") ? "pong" : null;
            for (Commands group : groups) {
                result = result == null ? group.run(command, request) : result;
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
