package headrace.playback;

import java.util.HashMap;
import java.util.Map;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.AggregateFunction;

/** The sum of histograms: counts by bucket are added bucket by bucket, and a bucket that comes to nothing is left out. SQL has no aggregate over maps. */
@FunctionHint(
        input = @DataTypeHint("MAP<STRING NOT NULL, BIGINT NOT NULL>"),
        output = @DataTypeHint("MAP<STRING NOT NULL, BIGINT NOT NULL> NOT NULL"))
public class AddedCounts extends AggregateFunction<Map<String, Long>, AddedCounts.Sum> {

    private static final long serialVersionUID = 1;

    /** What has been added so far. */
    public static class Sum {
        public Map<String, Long> counts = new HashMap<>();
    }

    @Override
    public Sum createAccumulator() {
        return new Sum();
    }

    /** Add one histogram. */
    public void accumulate(Sum sum, Map<String, Long> counts) {
        counts.forEach((bucket, count) -> sum.counts.merge(bucket, count, (a, b) -> a + b == 0 ? null : Long.valueOf(a + b)));
    }

    @Override
    public Map<String, Long> getValue(Sum sum) {
        return sum.counts;
    }
}
