package headrace.experiments;

import headrace.experiments.Metrics.Kind;
import headrace.experiments.Metrics.Metric;
import java.util.Arrays;

/** What a unit's measurements after and before an exposure come to, by metric, as they are taken one after another. */
final class Values {
    static final long NEVER = Long.MAX_VALUE;

    /** What a unit brings to the sums of a metric: {@code n} is 0 where it does not count, and all else with it; {@code ranks} of a quantile. */
    record Told(int n, int measured, long x, long y, long u, long v, Ranks ranks) {
        static final Told NOTHING = new Told(0, 0, 0, 0, 0, 0, Ranks.NONE);
    }

    private final Metrics metrics;
    private final long exposedAt;
    private final boolean[] touched;
    private final int[] after;
    private final int[] before;
    private final long[] x;
    private final long[] y;
    private final long[] u;
    private final long[] v;
    private final long[] firstMs;
    private final boolean[] news;
    /** Of quantiles, as many as values after it; in no order. */
    private final int[][] buckets;
    private final Told[] told;

    /** {@code touched}: the metrics that are asked for. */
    Values(Metrics metrics, long exposedAt, boolean[] touched) {
        this.metrics = metrics;
        this.exposedAt = exposedAt;
        this.touched = touched;
        int size = metrics.size();
        after = new int[size];
        before = new int[size];
        x = new long[size];
        y = new long[size];
        u = new long[size];
        v = new long[size];
        firstMs = new long[size];
        Arrays.fill(firstMs, NEVER);
        news = new boolean[size];
        buckets = new int[size][];
        told = new Told[size];
        Arrays.fill(told, Told.NOTHING);
    }

    private Values(Values of) {
        metrics = of.metrics;
        exposedAt = of.exposedAt;
        touched = of.touched;
        after = of.after.clone();
        before = of.before.clone();
        x = of.x.clone();
        y = of.y.clone();
        u = of.u.clone();
        v = of.v.clone();
        firstMs = of.firstMs.clone();
        news = new boolean[of.news.length];
        buckets = of.buckets.clone();
        for (int i = 0; i < buckets.length; i++) {
            buckets[i] = buckets[i] == null ? null : buckets[i].clone();
        }
        told = of.told.clone();
    }

    /** The same, without news. */
    Values copy() {
        Arrays.fill(news, false);
        return new Values(this);
    }

    void take(Measurement one) {
        long since = one.at() - exposedAt;
        if (since >= metrics.windowMs || -since > metrics.covariateMs) {
            return;
        }
        int[] numbers = one.numbers();
        long[] values = one.values();
        for (int i = 0; i < numbers.length; i++) {
            Metric metric = metrics.get(numbers[i]);
            if (metric != null && touched[numbers[i]] && (since >= 0 ? since < metric.windowMs() : -since <= metric.covariateMs())) {
                take(numbers[i], metric, since, values[i], metric.below() < 0 ? 0 : one.value(metric.below(), i));
            }
        }
    }

    private void take(int number, Metric metric, long since, long value, long below) {
        news[number] = true;
        long counted =
                switch (metric.kind()) {
                    case COUNT -> 1;
                    case PROPORTION -> value == 0 ? 0 : 1;
                    default -> value;
                };
        if (since < 0) {
            before[number]++;
            u[number] += counted;
            v[number] += below;
            return;
        }
        int count = after[number]++;
        x[number] += counted;
        y[number] += below;
        if (metric.kind() == Kind.QUANTILE) {
            int[] of = buckets[number];
            if (of == null || count == of.length) {
                of = buckets[number] = of == null ? new int[8] : Arrays.copyOf(of, 2 * count);
            }
            of[count] = bucket(Math.max(0, value));
        } else if (metric.kind() == Kind.TIME_TO_EVENT && value != 0) {
            firstMs[number] = Math.min(firstMs[number], since);
        }
    }

    boolean isMeasured(int number) {
        return after[number] > 0;
    }

    /** From the exposure to the first event, or NEVER. */
    long firstMs(int number) {
        return firstMs[number];
    }

    /** Whether something of the metric has been taken since this was asked. */
    boolean news(int number) {
        boolean is = news[number];
        news[number] = false;
        return is;
    }

    /** What was told last. */
    Told told(int number) {
        return told[number];
    }

    /** Tell what it comes to now. */
    void tell(int number) {
        Metric metric = metrics.get(number);
        int afterIt = after[number];
        int beforeIt = before[number];
        told[number] =
                switch (metric.kind()) {
                    case TIME_TO_EVENT -> Told.NOTHING;
                    case QUANTILE -> afterIt == 0 ? Told.NOTHING : new Told(1, 1, 0, 0, 0, 0, ranks(number));
                    case MEAN -> told(metric, number, halfEven(x[number], afterIt), halfEven(u[number], beforeIt));
                    case PROPORTION -> told(metric, number, Math.min(x[number], 1), Math.min(u[number], 1));
                    default -> told(metric, number, x[number], u[number]);
                };
    }

    private Told told(Metric metric, int number, long wholeX, long wholeU) {
        int afterIt = after[number];
        if (metric.needsAValue() ? afterIt == 0 : afterIt + before[number] == 0) {
            return Told.NOTHING;
        }
        return new Told(1, afterIt > 0 ? 1 : 0, bounded(wholeX), bounded(y[number]), bounded(wholeU), bounded(v[number]), Ranks.NONE);
    }

    private Ranks ranks(int number) {
        int[] sorted = Arrays.copyOf(buckets[number], after[number]);
        Arrays.sort(sorted);
        return new Ranks(sorted);
    }

    private long bounded(long value) {
        return Math.max(-metrics.largest, Math.min(value, metrics.largest));
    }

    /** As streams.playback.minute.bucket. */
    private static int bucket(long value) {
        int shift = Math.max(0, Long.SIZE - Long.numberOfLeadingZeros(value) - 6);
        return (shift << 5) + (int) (value >> shift);
    }

    private static long halfEven(long total, int count) {
        if (count == 0) {
            return 0;
        }
        long whole = Math.floorDiv(total, count);
        long twice = 2 * Math.floorMod(total, count);
        return whole + (twice > count || twice == count && (whole & 1) != 0 ? 1 : 0);
    }
}
