package headrace.recommendations;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.data.GenericArrayData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;

/**
 * The job's operators without Flink, from lines to lines, for tests. An object is a new case: what the operators are told. An array is an event: topic, keyed_by, event_id,
 * event_time, arrived_at, fields. Null writes everything to its state and reads it again. A text ends the case: item, layout, tiles and texts in hex, then the counts.
 */
public final class Replay {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Map<String, Door> doors = new HashMap<>();
    private final Map<String, Row> rows = new TreeMap<>();
    private final Map<String, Integer> counts = new TreeMap<>();
    private final Plan plan;
    private final Changes changes;

    private Replay(Plan plan) {
        this.plan = plan;
        changes = new Changes(plan, this::count);
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        Replay replay = null;
        for (String line; (line = in.readLine()) != null; ) {
            JsonNode told = JSON.readTree(line);
            if (told.isObject()) {
                replay = new Replay(new Plan(line));
            } else if (told.isArray()) {
                replay.take(told);
            } else if (told.isNull()) {
                replay.writeAndRead();
            } else {
                replay.end(out);
            }
        }
        out.flush();
    }

    private void take(JsonNode told) throws Exception {
        GenericRowData event = new GenericRowData(told.size());
        for (int i = 0; i < told.size(); i++) {
            event.setField(i, value(i, told.get(i)));
        }
        long toldMs = told.get(3).asLong();
        long arrivedMs = told.get(4).asLong();
        if (toldMs > arrivedMs) {
            count("ahead");
        }
        Door door = doors.computeIfAbsent(Doors.key(event), key -> new Door(plan));
        String why = door.refusal(event.getString(2).toBytes(), arrivedMs, plan.topics.get(told.get(0).asText()).capped());
        count(why.isEmpty() ? "taken" : why);
        if (why.isEmpty()) {
            changes.of(event, Math.min(toldMs, arrivedMs), (layout, key, change) -> {
                Plan.Layout of = plan.layouts.get(layout);
                String item = of.group() + Changes.BETWEEN + key;
                Changes.apply(change, of, rows.computeIfAbsent(item, made -> new Row(plan, of)));
            });
        }
    }

    private Object value(int column, JsonNode told) {
        if (told.isNull()) {
            return null;
        }
        if (column == 3 || column == 4) {
            return TimestampData.fromEpochMillis(told.asLong());
        }
        if (told.isArray()) {
            Object[] items = new Object[told.size()];
            for (int i = 0; i < items.length; i++) {
                items[i] = StringData.fromString(told.get(i).asText());
            }
            return new GenericArrayData(items);
        }
        return told.isBoolean() ? (Object) told.asBoolean() : told.isNumber() ? (Object) told.asLong() : StringData.fromString(told.asText());
    }

    private void writeAndRead() throws Exception {
        for (Map.Entry<String, Door> entry : doors.entrySet()) {
            entry.setValue(new Door(plan, entry.getValue().bytes()));
        }
        rows.replaceAll((item, row) -> new Row(plan, row.layout(), row.bytes()));
    }

    private void end(PrintStream out) {
        rows.forEach((item, row) -> {
            HexFormat hex = HexFormat.of();
            out.println(item + "\t" + row.layout().id() + "\t" + hex.formatHex(row.fixed()) + "\t" + hex.formatHex(row.texts()));
        });
        out.println("\t" + counts);
    }

    private void count(String reason) {
        counts.merge(reason, 1, Integer::sum);
    }
}
