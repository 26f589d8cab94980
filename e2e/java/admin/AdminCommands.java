import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.rocketmq.common.ServiceThread;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/** mqadmin inside the driver's JVM: the command line as its users type it, its output as they see it. */
public final class AdminCommands implements Commands {
    private static final long WATCH_INTERVAL_MS = 10;

    @Override
    public Object run(String command, Arguments arguments) throws Exception {
        if (!command.equals("mqadmin")) {
            return null;
        }
        String[] line = arguments.items("arguments").stream().map(String::valueOf).toArray(String[]::new);
        PrintStream output = System.out;
        PrintStream errors = System.err;
        ByteArrayOutputStream outputBytes = new ByteArrayOutputStream();
        ByteArrayOutputStream errorBytes = new ByteArrayOutputStream();
        System.setOut(new PrintStream(outputBytes, true, "UTF-8"));
        System.setErr(new PrintStream(errorBytes, true, "UTF-8"));
        Thread watcher = hastener(Thread.currentThread());
        watcher.start();
        try {
            MQAdminStartup.main0(line, null);
        } finally {
            watcher.interrupt();
            watcher.join();
            System.setOut(output);
            System.setErr(errors);
        }
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("output", outputBytes.toString(StandardCharsets.UTF_8));
        out.put("errors", errorBytes.toString(StandardCharsets.UTF_8));
        return out;
    }

    /**
     * A thread that ends the wait of the command's client for its own event thread, which looks only each three seconds
     * whether it shall end: every third command would take that long. No other client's thread is touched.
     */
    private static Thread hastener(Thread command) {
        Set<Thread> others = eventThreads();
        return new Thread(() -> {
            try {
                while (true) {
                    Thread.sleep(WATCH_INTERVAL_MS);
                    if (isStopping(command)) {
                        eventThreads().stream().filter(thread -> !others.contains(thread)).forEach(Thread::interrupt);
                    }
                }
            } catch (InterruptedException commandEnded) {
                Thread.currentThread().interrupt();
            }
        }, "hastener");
    }

    private static boolean isStopping(Thread command) {
        for (StackTraceElement frame : command.getStackTrace()) {
            if (frame.getMethodName().equals("shutdown") && frame.getClassName().equals(ServiceThread.class.getName())) {
                return true;
            }
        }
        return false;
    }

    private static Set<Thread> eventThreads() {
        return Thread.getAllStackTraces().keySet().stream()
            .filter(thread -> thread.getName().startsWith("NettyEventExecutor")).collect(Collectors.toSet());
    }
}
