import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/** mqadmin inside the driver's JVM: the command line as its users type it, its output as they see it. */
public final class AdminCommands implements Commands {
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
        try {
            MQAdminStartup.main0(line, null);
        } finally {
            System.setOut(output);
            System.setErr(errors);
        }
        Map<String, Object> out = new LinkedHashMap<>();
        out.put("output", outputBytes.toString(StandardCharsets.UTF_8));
        out.put("errors", errorBytes.toString(StandardCharsets.UTF_8));
        return out;
    }
}
