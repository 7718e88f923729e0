package headrace.recommendations;

import java.util.List;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.BigIntType;
import org.apache.flink.table.types.logical.IntType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.TimestampType;
import org.apache.flink.table.types.logical.VarBinaryType;
import org.apache.flink.table.types.logical.VarCharType;

/** Rows of features from events: {@link Doors} by the topic's key, then {@link Rows} by item. All features are one job, so that events are read once. */
public final class Features {
    private static final LogicalType TEXT = new VarCharType(false, VarCharType.MAX_LENGTH);
    private static final LogicalType BYTES = new VarBinaryType(false, VarBinaryType.MAX_LENGTH);
    private static final LogicalType NUMBER = new IntType(false);

    private Features() {}

    /** The operators over a stream; {@code argument}: see streams.recommendations.kept.argument. */
    public static DataStream<RowData> over(DataStream<RowData> told, String argument) {
        RowType change = row(List.of("item", "layout", "change"), TEXT, NUMBER, BYTES);
        RowType row = row(
                List.of("item", "clock", "generation", "taken", "group", "entity", "layout", "tiles", "texts"),
                TEXT, new TimestampType(false, 3), NUMBER, new BigIntType(false), TEXT, TEXT, TEXT, BYTES, BYTES);
        return told.keyBy((KeySelector<RowData, String>) Doors::key, Types.STRING)
                .transform("doors", InternalTypeInfo.of(change), new Doors(argument))
                .uid("doors")
                .keyBy((KeySelector<RowData, String>) one -> one.getString(0).toString(), Types.STRING)
                .transform("rows", InternalTypeInfo.of(row), new Rows(argument))
                .uid("rows");
    }

    private static RowType row(List<String> names, LogicalType... types) {
        return RowType.of(false, types, names.toArray(new String[0]));
    }
}
