package headrace.recommendations;

import java.time.Duration;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.BoundedOneInput;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.table.data.RowData;

/**
 * An operator that holds something by key: as bytes in the state, and what was asked for lately in memory too. What changes many times between two checkpoints is
 * written once, and what is asked for again is not read again.
 */
abstract class Keyed<V> extends AbstractStreamOperator<RowData> implements OneInputStreamOperator<RowData, RowData>, BoundedOneInput {

    private static final long serialVersionUID = 1;

    /** In memory; beyond it all is written, and what was asked for longest ago is let go. */
    private static final long MOST_BYTES = 64_000_000;

    private final String argument;
    private final String name;

    /** What has not changed for so long, by the wall clock, is let go: longer than anything that depends on it, and than a job may be behind its topics. */
    private final Duration kept;

    protected transient Plan plan;
    private transient ValueState<byte[]> state;
    /** In the order in which it was asked for last. */
    private transient LinkedHashMap<String, Held<V>> held;
    private transient long bytes;

    private static final class Held<V> {
        private final V value;
        private boolean isChanged;

        private Held(V value) {
            this.value = value;
        }
    }

    Keyed(String argument, String name, Duration kept) {
        this.argument = argument;
        this.name = name;
        this.kept = kept;
    }

    /** What is held of a key; {@code bytes} null where nothing is. */
    abstract V read(String key, byte[] bytes) throws Exception;

    abstract byte[] written(V value) throws Exception;

    /** About what it takes in memory. */
    abstract int size(V value);

    /** It is to be written. */
    void onWrite(String key, V value) throws Exception {}

    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        plan = new Plan(argument);
        held = new LinkedHashMap<>(1024, 0.75f, true);
        ValueStateDescriptor<byte[]> descriptor = new ValueStateDescriptor<>(name, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);
        descriptor.enableTimeToLive(StateTtlConfig.newBuilder(kept).build());
        state = context.getKeyedStateStore().getState(descriptor);
    }

    /** What is held of the current key, to be changed. */
    V held(String key) throws Exception {
        Held<V> found = held.get(key);
        if (found == null) {
            found = new Held<>(read(key, state.value()));
            held.put(key, found);
            bytes += size(found.value);
            if (bytes > MOST_BYTES) {
                writeAll();
                letGo();
            }
        }
        found.isChanged = true;
        return found.value;
    }

    void writeAll() throws Exception {
        bytes = 0;
        for (Map.Entry<String, Held<V>> entry : held.entrySet()) {
            Held<V> one = entry.getValue();
            if (one.isChanged) {
                setCurrentKey(entry.getKey());
                onWrite(entry.getKey(), one.value);
                state.update(written(one.value));
                one.isChanged = false;
            }
            bytes += size(one.value);
        }
    }

    /** What was asked for longest ago, until half is free; what was asked for last stays. */
    private void letGo() {
        for (Iterator<Held<V>> eldest = held.values().iterator(); bytes > MOST_BYTES / 2 && held.size() > 1; ) {
            bytes -= size(eldest.next().value);
            eldest.remove();
        }
    }

    /** What the state has of the current key. */
    byte[] stored() throws Exception {
        return state.value();
    }

    @Override
    public void prepareSnapshotPreBarrier(long checkpointId) throws Exception {
        writeAll();
    }

    @Override
    public void endInput() throws Exception {
        writeAll();
    }
}
