package headrace.recommendations;

import java.time.Duration;
import java.util.HashMap;
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
 * An operator that holds something by key: as bytes in the state, and in memory since it was last written there. What changes many times between two writings is
 * read and written once.
 */
abstract class Keyed<V> extends AbstractStreamOperator<RowData> implements OneInputStreamOperator<RowData, RowData>, BoundedOneInput {

    private static final long serialVersionUID = 1;

    /** In memory; beyond it all is written. */
    private static final long MOST_BYTES = 48_000_000;

    private final String argument;
    private final String name;

    /** What has not changed for so long, by the wall clock, is let go: longer than anything that depends on it, and than a job may be behind its topics. */
    private final Duration kept;

    protected transient Plan plan;
    private transient ValueState<byte[]> state;
    private transient Map<String, V> changed;
    private transient long bytes;

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

    /** It is being written; the key is the current one. */
    void onWritten(String key, V value, byte[] bytes) throws Exception {}

    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        plan = new Plan(argument);
        changed = new HashMap<>();
        ValueStateDescriptor<byte[]> descriptor = new ValueStateDescriptor<>(name, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO);
        descriptor.enableTimeToLive(StateTtlConfig.newBuilder(kept).build());
        state = context.getKeyedStateStore().getState(descriptor);
    }

    /** What is held of the current key, to be changed. */
    V held(String key) throws Exception {
        V value = changed.get(key);
        if (value == null) {
            value = read(key, state.value());
            changed.put(key, value);
            bytes += size(value);
            if (bytes > MOST_BYTES) {
                writeAll();
                setCurrentKey(key);
                value = read(key, state.value());
                changed.put(key, value);
            }
        }
        return value;
    }

    void writeAll() throws Exception {
        for (Map.Entry<String, V> entry : changed.entrySet()) {
            setCurrentKey(entry.getKey());
            byte[] now = written(entry.getValue());
            state.update(now);
            onWritten(entry.getKey(), entry.getValue(), now);
        }
        changed.clear();
        bytes = 0;
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
