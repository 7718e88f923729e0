package headrace.recommendations;

import java.time.Duration;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;

/**
 * The row of each key, told again when it has changed, at most once in {@link #TOLD_EVERY_MS}. By item, which is group and key. Takes what {@link Doors} gives;
 * gives item, clock, generation, taken, group, entity, layout, tiles, texts.
 *
 * <p>Nothing waits for a checkpoint: a row is a function of the set of events it has taken, so what is told again after a failure ends the same, and {@code taken} says
 * how far it has come (docs/adr/0015). When rows are told is the wall clock's, what they say is not.
 */
final class Rows extends Keyed<Row> {

    private static final long serialVersionUID = 1;

    /** What a title that all the world watches is told at most. */
    private static final long TOLD_EVERY_MS = 200;

    /** Of a state that was silent, at a time: what came meanwhile waits for as long. */
    private static final int TOLD_AT_ONCE = 5_000;

    /** Twice what the longest window reaches back: whoever has heard nothing for so long has no value, and what is later told of it is newer by a window. */
    private static final Duration KEPT = Duration.ofDays(64);

    /** Of the state: generation/isUntold/layouts. */
    private transient ListState<String> about;

    private transient int generation;
    private transient boolean isUntold;
    private transient Stream<String> keys;
    private transient Iterator<String> untold;
    private transient boolean isDue;
    private transient Map<String, Row> due;
    private transient StreamRecord<RowData> out;

    Rows(String argument) {
        super(argument, "row", KEPT);
    }

    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        generation = plan.generation;
        isUntold = false;
        due = new LinkedHashMap<>();
        out = new StreamRecord<>(null);
        about = context.getOperatorStateStore().getUnionListState(new ListStateDescriptor<>("about", Types.STRING));
        int of = 0;
        for (String told : about.get()) {
            String[] words = told.split("/");
            if (!words[2].equals(plan.layoutIds())) {
                throw new IllegalStateException("features have changed, and the state has rows of those before: run `headrace feature deploy`");
            }
            of = Math.max(of, Integer.parseInt(words[0]));
            isUntold |= Boolean.parseBoolean(words[1]);
        }
        generation = of > 0 ? of : generation;
    }

    @Override
    public void open() throws Exception {
        super.open();
        if (isUntold && !plan.isSilent) {
            wake(1);
        }
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        about.update(List.of(generation + "/" + (plan.isSilent || isUntold) + "/" + plan.layoutIds()));
    }

    @Override
    public void processElement(StreamRecord<RowData> element) throws Exception {
        RowData told = element.getValue();
        Plan.Layout layout = plan.layouts.get(told.getInt(1));
        String key = told.getString(0).toString();
        Row row = held(key);
        Changes.apply(told.getBinary(2), layout, row);
        if (plan.isSilent) {
            return;
        }
        due.put(key, row);
        if (!isDue) {
            wake(TOLD_EVERY_MS);
        }
    }

    private void wake(long afterMs) {
        isDue = true;
        getProcessingTimeService().registerTimer(getProcessingTimeService().getCurrentProcessingTime() + afterMs, now -> tell());
    }

    private void tell() throws Exception {
        isDue = false;
        due.forEach(this::tell);
        due.clear();
        if (isUntold && !plan.isSilent) {
            writeAll();
            tellSome();
        }
    }

    /** Of what was kept in silence; the state is told what is still to be told only when all is. */
    private void tellSome() throws Exception {
        if (untold == null) {
            keys = this.<String>getKeyedStateBackend().getKeys("row", VoidNamespace.INSTANCE);
            untold = keys.iterator();
        }
        for (int left = TOLD_AT_ONCE; left > 0 && untold.hasNext(); left--) {
            String key = untold.next();
            setCurrentKey(key);
            byte[] bytes = stored();
            if (bytes != null) {
                tell(key, read(key, bytes));
            }
        }
        if (untold.hasNext()) {
            wake(1);
        } else {
            keys.close();
            isUntold = false;
        }
    }

    /** Whatever the state has, has been told. */
    @Override
    void onWrite(String key, Row row) {
        if (due.remove(key) != null) {
            tell(key, row);
        }
    }

    private void tell(String key, Row row) {
        int between = key.indexOf(Changes.BETWEEN);
        GenericRowData told = GenericRowData.of(
                StringData.fromString(key), TimestampData.fromEpochMillis(row.clock()), generation, row.taken(),
                StringData.fromString(key.substring(0, between)), StringData.fromString(key.substring(between + 1)),
                StringData.fromString(row.layout().id()), row.fixed(), row.texts());
        output.collect(out.replace(told));
    }

    @Override
    Row read(String key, byte[] bytes) {
        String group = key.substring(0, key.indexOf(Changes.BETWEEN));
        for (Plan.Layout layout : plan.layouts) {
            if (layout.group().equals(group)) {
                return bytes == null ? new Row(plan, layout) : new Row(plan, layout, bytes);
            }
        }
        throw new IllegalStateException("no feature is about " + group);
    }

    @Override
    byte[] written(Row row) {
        return row.bytes();
    }

    @Override
    int size(Row row) {
        return row.size();
    }

    @Override
    public void close() throws Exception {
        if (keys != null) {
            keys.close();
        }
        super.close();
    }
}
