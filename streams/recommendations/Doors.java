package headrace.recommendations;

import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.metrics.Counter;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;

/**
 * Which events count, and which rows they change. By topic and its key, in the order of the log. Takes rows of kept.view, gives item, layout, change ({@link Changes}).
 * What does not count is counted by Flink, by its reason.
 */
final class Doors extends Keyed<Door> {

    private static final long serialVersionUID = 1;

    /** Topics are kept for 35 days; a job cannot be further behind. */
    private static final Duration KEPT = Duration.ofDays(36);

    private transient Map<String, Counter> counts;
    private transient Changes changes;
    private transient StreamRecord<RowData> out;

    Doors(String argument) {
        super(argument, "door", KEPT);
    }

    static String key(RowData event) {
        return event.getString(0).toString() + Changes.BETWEEN + event.getString(1);
    }

    @Override
    public void open() throws Exception {
        super.open();
        counts = new HashMap<>();
        changes = new Changes(plan, this::count);
        out = new StreamRecord<>(null);
        for (String reason : "taken twice beyond_most ahead no_key too_long out_of_bounds".split(" ")) {
            counts.put(reason, getMetricGroup().counter(reason));
        }
    }

    @Override
    public void processElement(StreamRecord<RowData> element) throws Exception {
        RowData event = element.getValue();
        long toldMs = event.getTimestamp(3, 3).getMillisecond();
        long arrivedMs = event.getTimestamp(4, 3).getMillisecond();
        if (toldMs > arrivedMs) {
            count("ahead");
        }
        boolean isCapped = plan.topics.get(event.getString(0).toString()).capped();
        String why = held(key(event)).refusal(event.getString(2).toBytes(), arrivedMs, isCapped);
        count(why.isEmpty() ? "taken" : why);
        if (why.isEmpty()) {
            changes.of(event, Math.min(toldMs, arrivedMs), this::change);
        }
    }

    private void change(int layout, String key, byte[] change) {
        StringData item = StringData.fromString(plan.layouts.get(layout).group() + Changes.BETWEEN + key);
        output.collect(out.replace(GenericRowData.of(item, layout, change)));
    }

    private void count(String reason) {
        counts.get(reason).inc();
    }

    @Override
    Door read(String key, byte[] bytes) throws Exception {
        return bytes == null ? new Door(plan) : new Door(plan, bytes);
    }

    @Override
    byte[] written(Door door) throws Exception {
        return door.bytes();
    }

    @Override
    int size(Door door) {
        return door.size();
    }
}
