package headrace.recommendations;

import java.io.IOException;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;

/** Which events of one topic's key count, given in the order of the log: Door of streams/recommendations/engine.py. */
final class Door {
    private final Plan plan;
    private final LinkedHashMap<Text, Long> seen = new LinkedHashMap<>();
    private long clock = Plan.NEVER;
    private long day = Plan.NEVER;
    private int today;

    Door(Plan plan) {
        this.plan = plan;
    }

    /** A door as {@link #bytes} gave it. */
    Door(Plan plan, byte[] bytes) throws IOException {
        this.plan = plan;
        DataInputDeserializer in = new DataInputDeserializer(bytes);
        clock = in.readLong();
        day = in.readLong();
        today = in.readInt();
        for (int left = in.readInt(); left > 0; left--) {
            long at = in.readLong();
            byte[] text = new byte[in.readInt()];
            in.readFully(text);
            seen.put(new Text(text), at);
        }
    }

    /** Why an event does not count; empty where it does. */
    String refusal(byte[] eventId, long arrivedMs, boolean isCapped) {
        clock = Math.max(clock, arrivedMs);
        for (Iterator<Long> times = seen.values().iterator(); times.hasNext() && times.next() < clock - plan.twiceMs; ) {
            times.remove();
        }
        if (Math.floorDiv(clock, Plan.DAY_MS) > day) {
            day = Math.floorDiv(clock, Plan.DAY_MS);
            today = 0;
        }
        Text id = new Text(eventId);
        if (seen.remove(id) != null) {
            seen.put(id, clock);
            return "twice";
        }
        if (isCapped && today >= plan.mostADay) {
            return "beyond_most";
        }
        seen.put(id, clock);
        today++;
        return "";
    }

    /** About how much memory it takes. */
    int size() {
        return 100 + 150 * seen.size();
    }

    byte[] bytes() throws IOException {
        DataOutputSerializer out = new DataOutputSerializer(64 + 64 * seen.size());
        out.writeLong(clock);
        out.writeLong(day);
        out.writeInt(today);
        out.writeInt(seen.size());
        for (Map.Entry<Text, Long> entry : seen.entrySet()) {
            out.writeLong(entry.getValue());
            out.writeInt(entry.getKey().bytes().length);
            out.write(entry.getKey().bytes());
        }
        return out.getCopyOfBuffer();
    }
}
