package headrace.experiments;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.StateDescriptor;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.runtime.state.StateInitializationContext;
import org.apache.flink.runtime.state.StateSnapshotContext;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.operators.AbstractStreamOperator;
import org.apache.flink.streaming.api.operators.BoundedOneInput;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.MapData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.DateType;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.IntType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.MapType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.TimestampType;
import org.apache.flink.table.types.logical.VarCharType;

/**
 * What do exposures and measurements add to the sums of experiments? An operator over both, by unit.
 *
 * <p>What each record changes ({@link Unit}) is added up in memory ({@link Sums}), and let out just before a checkpoint's barrier. So there is nothing in memory
 * to be saved, and as many rows come out as there are sums that changed, however many records changed them. No function of Flink SQL has such a hook:
 * that is why this is an operator (docs/adr/0013).
 *
 * <p>Takes rows of unit, event_time, event_id, variations, segments, source, measurement_id, version, measured; of an exposure the last four are null, of a
 * measurement variations and segments. Gives told_at, row_id and the fields of experiments.statistic.
 */
public class UnitStatistics extends AbstractStreamOperator<RowData> implements OneInputStreamOperator<RowData, RowData>, BoundedOneInput {

    private static final long serialVersionUID = 1;

    /** Of sums in memory; beyond it they are let out early. */
    private static final long MOST_BYTES = 100_000_000;

    /** Of who has not been heard of for so long nothing is known any more. As long as statistics are kept. */
    private static final Duration UNIT_KEPT = Duration.ofDays(400);

    /** A job that is further behind than its topics reach back has lost more than this. */
    private static final Duration BEHIND = Duration.ofDays(30);

    private static final char BETWEEN = '\u001f';
    private static final DecimalData ZERO = decimal(BigInteger.ZERO);

    private final String argument;

    private transient Metrics metrics;
    private transient Sums sums;
    private transient Texts texts;
    private transient Weeks held;
    private transient ListState<String> names;
    private transient long newest;
    private transient long flushes;

    UnitStatistics(String argument) {
        this.argument = argument;
    }

    /** The operator over a stream; {@code argument}: see streams.experiments.batch.argument. */
    public static DataStream<RowData> over(DataStream<RowData> told, String argument) {
        return told.keyBy((KeySelector<RowData, String>) row -> row.getString(0).toString(), Types.STRING)
                .transform("unit_statistics", InternalTypeInfo.of(outputType()), new UnitStatistics(argument))
                .uid("unit_statistics");
    }

    private static RowType outputType() {
        LogicalType text = new VarCharType(false, VarCharType.MAX_LENGTH);
        LogicalType number = new IntType(false);
        LogicalType count = new BigIntType(false);
        List<RowType.RowField> fields = new ArrayList<>();
        fields.add(new RowType.RowField("told_at", new TimestampType(false, 3)));
        fields.add(new RowType.RowField("row_id", text));
        fields.add(new RowType.RowField("experiment", text));
        fields.add(new RowType.RowField("phase", number));
        fields.add(new RowType.RowField("variation", text));
        fields.add(new RowType.RowField("segment", new MapType(false, text, text)));
        fields.add(new RowType.RowField("day", new DateType(false)));
        fields.add(new RowType.RowField("metric", text));
        fields.add(new RowType.RowField("value_bucket", number));
        fields.add(new RowType.RowField("n", count));
        fields.add(new RowType.RowField("measured", count));
        for (String sum : "x y u v xx yy uu vv xy xu xv yu yv uv".split(" ")) {
            fields.add(new RowType.RowField("sum_" + sum, new DecimalType(false, 38, 0)));
        }
        return new RowType(false, fields);
    }

    @Override
    public void initializeState(StateInitializationContext context) throws Exception {
        super.initializeState(context);
        names = context.getOperatorStateStore().getUnionListState(new ListStateDescriptor<>("names", Types.STRING));
        List<String> known = new ArrayList<>();
        for (String name : names.get()) {
            if (!known.contains(name)) {
                known.add(name);
            }
        }
        metrics = new Metrics(argument, known);
        sums = new Sums(metrics);
        texts = new Texts();
        newest = Long.MIN_VALUE;
        held = new Weeks(new State(
                context.getKeyedStateStore().getState(kept(new ValueStateDescriptor<>(
                        "met", PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO), UNIT_KEPT)),
                measured(context, "weeks"), measured(context, "days")));
    }

    private MapState<Integer, byte[]> measured(StateInitializationContext context, String name) {
        return context.getKeyedStateStore().getMapState(kept(new MapStateDescriptor<>(
                name, Types.INT, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO), Duration.ofMillis(metrics.keptMs()).plus(BEHIND)));
    }

    /** Kept for so long after it was written: every record that is a unit's newest writes, so none needs to when it is read. */
    private static <D extends StateDescriptor<?, ?>> D kept(D descriptor, Duration time) {
        descriptor.enableTimeToLive(StateTtlConfig.newBuilder(time).build());
        return descriptor;
    }

    @Override
    public void snapshotState(StateSnapshotContext context) throws Exception {
        super.snapshotState(context);
        names.update(metrics.names);
    }

    @Override
    public void processElement(StreamRecord<RowData> element) throws Exception {
        RowData told = element.getValue();
        long at = told.getTimestamp(1, 3).getMillisecond();
        newest = Math.max(newest, at);
        Unit unit = new Unit(metrics, held, sums, texts);
        if (!told.isNullAt(3)) {
            unit.expose(at, told.getString(2).toString(), segment(told.getMap(4)), texts(told.getMap(3)));
        } else {
            measure(unit, at, told);
        }
        if (sums.bytes() > MOST_BYTES) {
            letOut("early-" + flushes++);
        }
    }

    private void measure(Unit unit, long at, RowData told) throws Exception {
        MapData measured = told.getMap(8);
        ArrayData keys = measured.keyArray();
        ArrayData found = measured.valueArray();
        int[] numbers = new int[keys.size()];
        long[] values = new long[numbers.length];
        int count = 0;
        for (int i = 0; i < numbers.length; i++) {
            int number = metrics.of(keys.getString(i).toString());
            long value = found.getLong(i);
            if (number >= 0 && Math.abs(value) <= metrics.largest && value != Long.MIN_VALUE) {
                numbers[count] = number;
                values[count++] = value;
            }
        }
        long id = Identity.of(told.getString(5).toBytes(), told.getString(6).toBytes());
        unit.measure(at, id, told.getLong(7), Arrays.copyOf(numbers, count), Arrays.copyOf(values, count));
    }

    @Override
    public void prepareSnapshotPreBarrier(long checkpointId) {
        letOut(String.valueOf(checkpointId));
    }

    @Override
    public void endInput() {
        letOut("end");
    }

    private void letOut(String when) {
        String before = getRuntimeContext().getTaskInfo().getIndexOfThisSubtask() + "-" + when + "-";
        sums.letOut(new Rows(before, TimestampData.fromEpochMillis(newest)));
    }

    /** Makes rows of sums; what is alike in those of an arm, which come one after another, is made once. */
    private final class Rows implements Sums.Out {
        private final String before;
        private final TimestampData toldAt;
        private final StreamRecord<RowData> record = new StreamRecord<>(null);
        private final StringData noMetric = StringData.fromString("");
        private final StringData[] keys = new StringData[metrics.size()];
        private long count;
        private Sums.Arm last;
        private StringData experiment;
        private Integer phase;
        private StringData variation;
        private MapData segment;

        /** {@code before}: what ids of rows begin with. */
        Rows(String before, TimestampData toldAt) {
            this.before = before;
            this.toldAt = toldAt;
            Arrays.setAll(keys, number -> StringData.fromString(metrics.names.get(number)));
        }

        @Override
        public void row(Sums.Arm arm, int day, int metric, int bucket, Sums.Sum sum) {
            if (arm != last) {
                last = arm;
                int dot = arm.experiment().lastIndexOf('.');
                experiment = StringData.fromString(arm.experiment().substring(0, dot));
                phase = Integer.valueOf(arm.experiment().substring(dot + 1));
                variation = StringData.fromString(arm.variation());
                segment = segments(arm.segment());
            }
            GenericRowData row = new GenericRowData(9 + Sums.COUNT);
            int place = 0;
            row.setField(place++, toldAt);
            row.setField(place++, StringData.fromString(before + count++));
            row.setField(place++, experiment);
            row.setField(place++, phase);
            row.setField(place++, variation);
            row.setField(place++, segment);
            row.setField(place++, day);
            row.setField(place++, metric == Sums.UNITS ? noMetric : keys[metric]);
            row.setField(place++, bucket);
            for (int i = 0; i < Sums.COUNT; i++) {
                row.setField(place++, i < Sums.X ? (Object) sum.small(i) : sum.isNothing(i) ? ZERO : decimal(sum.get(i)));
            }
            output.collect(record.replace(row, newest));
        }
    }

    private static DecimalData decimal(BigInteger sum) {
        return DecimalData.fromBigDecimal(new BigDecimal(sum), 38, 0);
    }

    private static Map<String, String> texts(MapData told) {
        Map<String, String> texts = new TreeMap<>();
        ArrayData keys = told.keyArray();
        ArrayData values = told.valueArray();
        for (int i = 0; i < keys.size(); i++) {
            texts.put(keys.getString(i).toString(), values.getString(i).toString());
        }
        return texts;
    }

    private static String segment(MapData told) {
        StringBuilder joined = new StringBuilder();
        texts(told).forEach((name, value) -> joined.append(name).append(BETWEEN).append(value).append(BETWEEN));
        return joined.toString();
    }

    private static MapData segments(String joined) {
        Map<StringData, StringData> segments = new HashMap<>();
        for (int from = 0; from < joined.length(); ) {
            int middle = joined.indexOf(BETWEEN, from);
            int end = joined.indexOf(BETWEEN, middle + 1);
            segments.put(StringData.fromString(joined.substring(from, middle)), StringData.fromString(joined.substring(middle + 1, end)));
            from = end + 1;
        }
        return new GenericMapData(segments);
    }

    /** The state of the unit whose record it is; {@code days}: where there was something before {@link Weeks}. */
    private record State(ValueState<byte[]> met, MapState<Integer, byte[]> weeks, MapState<Integer, byte[]> days) implements Weeks.Store {
        @Override
        public byte[] unit() throws Exception {
            return met.value();
        }

        @Override
        public void unit(byte[] bytes) throws Exception {
            met.update(bytes);
        }

        @Override
        public byte[] week(int week) throws Exception {
            return weeks.get(week);
        }

        @Override
        public void week(int week, byte[] bytes) throws Exception {
            weeks.put(week, bytes);
        }

        @Override
        public void forget(int week) throws Exception {
            weeks.remove(week);
        }

        @Override
        public Map<Integer, byte[]> takeDays() throws Exception {
            Map<Integer, byte[]> taken = new TreeMap<>();
            Iterable<Map.Entry<Integer, byte[]>> entries = days.entries();
            if (entries != null) {
                entries.forEach(one -> taken.put(one.getKey(), one.getValue()));
            }
            days.clear();
            return taken;
        }
    }
}
