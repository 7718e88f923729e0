package headrace.experiments;

import java.util.HashMap;
import java.util.Map;
import org.apache.flink.metrics.Counter;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * What does an event measure, in whole numbers by metric? The rules are those of Metric in schemas/allocation/definition.py.
 *
 * <p>Takes the metrics in JSON, each with its names, scale and bounds, and then a value for each of the names. What is null was not there to be measured; what is not
 * finite, or out of bounds, or beyond 2⁵³, was told, but cannot be true: it is left out, and counted by Flink as notMeasured. Of a ratio nothing is
 * measured where one of both is not. One function for all, because SQL has no map with some of its keys.
 */
@FunctionHint(output = @DataTypeHint("MAP<STRING NOT NULL, BIGINT NOT NULL> NOT NULL"))
public class Measured extends ScalarFunction {

    private static final long serialVersionUID = 1;

    private static final double MOST = 1L << 53;

    private record Metric(String[] names, double scale, double atLeast, double atMost, double floor, double cap) {}

    private transient Metric[] metrics;
    private transient Counter notMeasured;

    @Override
    public void open(FunctionContext context) {
        notMeasured = context.getMetricGroup().counter("notMeasured");
    }

    public Map<String, Long> eval(String told, Double... values) throws Exception {
        if (metrics == null) {
            metrics = metrics(told);
        }
        Map<String, Long> measured = new HashMap<>();
        int next = 0;
        for (Metric metric : metrics) {
            int first = next;
            next += metric.names.length;
            boolean isThere = true;
            boolean isTrue = true;
            for (int i = first; i < next; i++) {
                isThere &= values[i] != null;
                isTrue &= values[i] == null || isTrue(metric, values[i]);
            }
            if (!isTrue) {
                notMeasured.inc();
            } else if (isThere) {
                for (int i = first; i < next; i++) {
                    measured.put(metric.names[i - first], (long) scaled(metric, values[i]));
                }
            }
        }
        return measured;
    }

    private static boolean isTrue(Metric metric, double value) {
        return value >= metric.atLeast && value <= metric.atMost && Math.abs(scaled(metric, value)) <= MOST; // false of what is not a number
    }

    private static double scaled(Metric metric, double value) {
        return Math.rint(Math.max(metric.floor, Math.min(value, metric.cap)) * metric.scale);
    }

    private static Metric[] metrics(String told) throws Exception {
        JsonNode all = new ObjectMapper().readTree(told);
        Metric[] metrics = new Metric[all.size()];
        for (int i = 0; i < metrics.length; i++) {
            JsonNode one = all.get(i);
            String[] names = new String[one.get("names").size()];
            for (int j = 0; j < names.length; j++) {
                names[j] = one.get("names").get(j).asText();
            }
            metrics[i] = new Metric(
                    names, one.get("scale").asDouble(), bound(one, "at_least", -Double.MAX_VALUE), bound(one, "at_most", Double.MAX_VALUE),
                    bound(one, "floor", -Double.MAX_VALUE), bound(one, "cap", Double.MAX_VALUE));
        }
        return metrics;
    }

    private static double bound(JsonNode metric, String name, double none) {
        return metric.has(name) ? metric.get(name).asDouble() : none;
    }
}
