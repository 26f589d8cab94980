import com.alibaba.fastjson2.JSON;
import com.alibaba.fastjson2.JSONArray;
import com.alibaba.fastjson2.JSONObject;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.rocketmq.broker.filter.MessageEvaluationContext;
import org.apache.rocketmq.filter.FilterFactory;
import org.apache.rocketmq.filter.expression.Expression;

/**
 * Reads lines {"expression": text, "properties": [{name: value}, ...]} and answers each with a line {"verdicts": letters} or
 * {"error": why the expression is refused}. A letter per property map: T true, F false, N null, E an exception while evaluating.
 */
public final class FilterJudge {
    private FilterJudge() {
    }

    public static void main(String[] none) throws Exception {
        PrintStream out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, "UTF-8");
        System.setOut(System.err);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            out.println(judge(JSON.parseObject(line)).toJSONString());
        }
        out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static JSONObject judge(JSONObject question) {
        Expression expression;
        try {
            expression = FilterFactory.INSTANCE.get("SQL92").compile(question.getString("expression"));
        } catch (Exception refused) {
            Throwable cause = refused.getCause() == null ? refused : refused.getCause();
            return JSONObject.of("error", cause.toString());
        }
        StringBuilder verdicts = new StringBuilder();
        JSONArray maps = question.getJSONArray("properties");
        for (int i = 0; i < maps.size(); i++) {
            Map<String, String> properties = new HashMap<>();
            maps.getJSONObject(i).forEach((name, value) -> properties.put(name, (String) value));
            verdicts.append(verdict(expression, properties));
        }
        return JSONObject.of("verdicts", verdicts.toString());
    }

    private static char verdict(Expression expression, Map<String, String> properties) {
        try {
            Object value = expression.evaluate(new MessageEvaluationContext(properties));
            return value == null ? 'N' : Boolean.TRUE.equals(value) ? 'T' : Boolean.FALSE.equals(value) ? 'F' : '?';
        } catch (Exception error) {
            return 'E';
        }
    }
}
