package headrace.experiments;

import headrace.experiments.Metrics.Kind;
import headrace.experiments.Metrics.Metric;
import java.math.BigInteger;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** What has been added to the sums of experiments since they were let out: exact, in 128 bits where 64 do not do. */
final class Sums {
    static final int N = 0;
    static final int MEASURED = 1;
    static final int X = 2;
    static final int Y = 3;
    static final int U = 4;
    static final int V = 5;
    static final int XX = 6;
    static final int YY = 7;
    static final int UU = 8;
    static final int VV = 9;
    static final int XY = 10;
    static final int XU = 11;
    static final int XV = 12;
    static final int YU = 13;
    static final int YV = 14;
    static final int UV = 15;
    static final int COUNT = 16;

    /** Whose metric is the units themselves. */
    static final int UNITS = -1;

    static final int WITHOUT_A_BUCKET = -1;

    /** In longs. */
    private static final int CACHE_LINE = 8;

    /** A variation and a segment: {@code experiment} is experiment.phase, {@code segment} names and values one after the other. */
    record Arm(String experiment, String variation, String segment) {}

    /** Takes what is let out; {@code sums} is good for the call only. */
    interface Out {
        void row(Arm arm, int day, int metric, int bucket, Sum sums);
    }

    /** As they lie in memory: those first that a measurement changes most often, so that it reaches for few cache lines. */
    private static final int[] ORDER = {X, XX, XU, Y, YY, XY, XV, YU, YV, N, MEASURED, U, UU, V, VV, UV};

    private final int metrics;
    /** A hash table that is probed one after another. */
    private Cells[] arms = new Cells[1 << 10];
    private int count;
    /** By sum and metric, the place of what a metric has; -1 where it has no such sum. */
    private final int[] places;
    private final int kept;
    private final Change change;
    private long bytes;

    Sums(Metrics of) {
        metrics = of.size();
        places = new int[COUNT * metrics];
        Arrays.fill(places, -1);
        int count = 0;
        for (int sum : ORDER) {
            for (int metric = 0; metric < metrics; metric++) {
                if (has(of.get(metric), sum)) {
                    places[sum * metrics + metric] = count++;
                }
            }
        }
        kept = count;
        change = new Change();
    }

    private static boolean has(Metric metric, int sum) {
        if (metric == null) {
            return false;
        }
        return switch (sum) {
            case N, MEASURED -> true;
            case X, U, XX, XU, UU -> metric.kind() != Kind.QUANTILE && metric.kind() != Kind.TIME_TO_EVENT;
            default -> metric.kind() == Kind.RATIO;
        };
    }

    /** About how much memory they take. */
    long bytes() {
        return bytes;
    }

    Cells of(Arm arm) {
        int place = place(arms, arm.experiment, arm.variation, arm.segment);
        if (arms[place] == null) {
            if (2 * count >= arms.length) {
                grow();
                place = place(arms, arm.experiment, arm.variation, arm.segment);
            }
            arms[place] = new Cells(arm.experiment, arm.variation, arm.segment);
            count++;
        }
        return arms[place];
    }

    private static int place(Cells[] among, String experiment, String variation, String segment) {
        int hash = (31 * (31 * experiment.hashCode() + variation.hashCode()) + segment.hashCode()) * 0x9E3779B9;
        int place = hash >>> Integer.numberOfLeadingZeros(among.length - 1);
        while (among[place] != null && !among[place].is(experiment, variation, segment)) {
            place = place + 1 & among.length - 1;
        }
        return place;
    }

    private void grow() {
        Cells[] old = arms;
        arms = new Cells[2 * old.length];
        for (Cells of : old) {
            if (of != null) {
                arms[place(arms, of.experiment, of.variation, of.segment)] = of;
            }
        }
    }

    /** Nothing, to be filled and added to arms. */
    Change change() {
        return change;
    }

    void letOut(Out out) {
        for (Cells of : arms) {
            if (of != null) {
                of.letOut(out);
            }
        }
        Arrays.fill(arms, null);
        count = 0;
        bytes = 0;
    }

    /** What one change adds to a day, worked out once for all arms that it goes to. */
    final class Change {
        /** By place. */
        private final long[] low = new long[kept];
        private final long[] high = new long[kept];
        /** What is not 0 of it. */
        private final int[] changed = new int[kept];
        private final long[] lows = new long[kept];
        private final long[] highs = new long[kept];
        private int count;
        /** Of the arms that it goes to. */
        private Block[] blocks = new Block[32];
        /** Nobody asks for it: but what nobody can ask for, the compiler leaves out. */
        private long seen;
        /** Metric, bucket, n, xx and xy, one after another. */
        private long[] buckets = new long[5 * 64];
        private int bucketsEnd;

        /** What a unit comes to, less what it came to; with the sign 1 or -1. */
        void difference(int metric, Values.Told was, Values.Told is, int sign) {
            if (was == is) {
                return;
            }
            add(metric, N, sign * (is.n() - was.n()));
            add(metric, MEASURED, sign * (is.measured() - was.measured()));
            add(metric, X, sign * (is.x() - was.x()));
            add(metric, Y, sign * (is.y() - was.y()));
            add(metric, U, sign * (is.u() - was.u()));
            add(metric, V, sign * (is.v() - was.v()));
            products(metric, was, -sign);
            products(metric, is, sign);
            if (was.ranks() != is.ranks()) {
                is.ranks().less(was.ranks(), (bucket, n, odd, all) -> bucket(metric, bucket, sign * n, sign * odd, sign * all));
            }
        }

        private void products(int metric, Values.Told of, int sign) {
            long x = of.x();
            long y = of.y();
            long u = of.u();
            long v = of.v();
            product(metric, XX, x, x, sign);
            product(metric, XU, x, u, sign);
            product(metric, UU, u, u, sign);
            if ((y | v) != 0) {
                product(metric, YY, y, y, sign);
                product(metric, VV, v, v, sign);
                product(metric, XY, x, y, sign);
                product(metric, XV, x, v, sign);
                product(metric, YU, y, u, sign);
                product(metric, YV, y, v, sign);
                product(metric, UV, u, v, sign);
            }
        }

        private void product(int metric, int sum, long a, long b, int sign) {
            if (a == 0 || b == 0) {
                return;
            }
            long lower = a * b;
            long upper = Math.multiplyHigh(a, b);
            if (sign < 0) {
                lower = -lower;
                upper = ~upper + (lower == 0 ? 1 : 0);
            }
            add(metric, sum, lower, upper);
        }

        void add(int metric, int sum, long value) {
            if (value != 0) {
                add(metric, sum, value, value >> 63);
            }
        }

        private void add(int metric, int sum, long lower, long upper) {
            plus(low, high, places[sum * metrics + metric], lower, upper);
        }

        void bucket(int metric, int bucket, long n, long xx, long xy) {
            if ((n | xx | xy) == 0) {
                return;
            }
            if (bucketsEnd == buckets.length) {
                buckets = Arrays.copyOf(buckets, 2 * bucketsEnd);
            }
            buckets[bucketsEnd++] = metric;
            buckets[bucketsEnd++] = bucket;
            buckets[bucketsEnd++] = n;
            buckets[bucketsEnd++] = xx;
            buckets[bucketsEnd++] = xy;
        }

        /** Add it to arms, and begin anew. */
        void addTo(List<Cells> cells, int day) {
            condense();
            if (count > 0) {
                fetch(cells, day);
                for (int i = 0; i < cells.size(); i++) {
                    blocks[i].add(this);
                    blocks[i] = null;
                }
            }
            if (bucketsEnd > 0) {
                for (Cells of : cells) {
                    of.add(this, day);
                }
                bucketsEnd = 0;
            }
        }

        /** Look at all that is going to be changed: so the processor waits for the memory of all arms at once, and not for one after the other. */
        private void fetch(List<Cells> cells, int day) {
            if (blocks.length < cells.size()) {
                blocks = new Block[2 * cells.size()];
            }
            for (int i = 0; i < cells.size(); i++) {
                blocks[i] = cells.get(i).block(day);
            }
            long sum = 0;
            for (int i = 0; i < cells.size(); i++) {
                long[] of = blocks[i].low;
                for (int j = 0; j < count; j += CACHE_LINE) {
                    sum += of[changed[j]];
                }
            }
            seen = sum;
        }

        private void condense() {
            count = 0;
            for (int place = 0; place < low.length; place++) {
                if ((low[place] | high[place]) != 0) {
                    changed[count] = place;
                    lows[count] = low[place];
                    highs[count++] = high[place];
                    low[place] = 0;
                    high[place] = 0;
                }
            }
        }
    }

    /** The sums of one arm. */
    final class Cells {
        private final String experiment;
        private final String variation;
        private final String segment;
        private final Map<Integer, Block> days = new HashMap<>(2);
        private final Buckets buckets = new Buckets();
        private int lastDay;
        private Block last;

        Cells(String experiment, String variation, String segment) {
            this.experiment = experiment;
            this.variation = variation;
            this.segment = segment;
        }

        private boolean is(String itsExperiment, String itsVariation, String itsSegment) {
            return experiment.equals(itsExperiment) && variation.equals(itsVariation) && segment.equals(itsSegment);
        }

        /** Of the units themselves. */
        void addUnits(int day, int sum, long value) {
            block(day).addUnits(sum, value);
        }

        private void add(Change change, int day) {
            for (int i = 0; i < change.bucketsEnd; i += 5) {
                buckets.add(day, change.buckets, i);
            }
        }

        private Block block(int day) {
            if (last == null || day != lastDay) {
                lastDay = day;
                last = days.computeIfAbsent(day, key -> new Block());
            }
            return last;
        }

        private void letOut(Out out) {
            Arm arm = new Arm(experiment, variation, segment);
            days.forEach((day, block) -> {
                for (int metric = UNITS; metric < metrics; metric++) {
                    Sum sum = block.sum(metric);
                    if (!sum.isNothing()) {
                        out.row(arm, day, metric, WITHOUT_A_BUCKET, sum);
                    }
                }
            });
            buckets.letOut(arm, out);
        }
    }

    /** The sums of a day, side by side: 2,000 experiments of 20 metrics are to fit the processor's cache. The upper halves are there once one of them needs it. */
    private final class Block {
        private final long[] low = new long[kept];
        private long[] high;
        private long[] units;

        Block() {
            bytes += 8L * low.length + 100;
        }

        void addUnits(int sum, long value) {
            if (units == null) {
                units = new long[COUNT];
                bytes += 8L * COUNT;
            }
            units[sum] += value;
        }

        void add(Change change) {
            int i = 0;
            for (; high == null && i < change.count; i++) {
                int place = change.changed[i];
                if (!fits(low[place], change.lows[i], change.highs[i])) {
                    bytes += 8L * low.length;
                    high = upper(low);
                    break;
                }
                low[place] += change.lows[i];
            }
            for (; i < change.count; i++) {
                plus(low, high, change.changed[i], change.lows[i], change.highs[i]);
            }
        }

        Sum sum(int metric) {
            Sum of = new Sum();
            for (int sum = 0; sum < COUNT; sum++) {
                if (metric == UNITS) {
                    of.set(sum, units == null ? 0 : units[sum]);
                    continue;
                }
                int place = places[sum * metrics + metric];
                if (place >= 0) {
                    of.low[sum] = low[place];
                    of.high[sum] = high == null ? low[place] >> 63 : high[place];
                }
            }
            return of;
        }
    }

    /** Sums by day, metric and bucket, in a hash table that is probed one after another; of an entry its day and bucket, metric + 1, n, xx and xy. */
    private final class Buckets {
        private static final int WIDTH = 5;

        private long[] table = {};
        private int count;

        /** What the five numbers from a place on say: metric, bucket, n, xx and xy. */
        void add(int day, long[] told, int from) {
            if (count * 2 * WIDTH >= table.length) {
                grow();
            }
            long where = (long) day << 32 | told[from + 1] & 0xffffffffL;
            int at = place(where, told[from] + 1);
            if (table[at + 1] == 0) {
                table[at] = where;
                table[at + 1] = told[from] + 1;
                count++;
            }
            for (int i = 2; i < WIDTH; i++) {
                table[at + i] += told[from + i];
            }
        }

        private int place(long where, long metric) {
            int entries = table.length / WIDTH;
            long hash = (where * 31 + metric) * 0x9E3779B97F4A7C15L;
            for (int entry = (int) (hash >>> 32) & entries - 1; ; entry = entry + 1 & entries - 1) {
                int at = entry * WIDTH;
                if (table[at + 1] == 0 || table[at] == where && table[at + 1] == metric) {
                    return at;
                }
            }
        }

        private void grow() {
            long[] old = table;
            table = new long[Math.max(8 * WIDTH, 2 * old.length)];
            bytes += 8L * (table.length - old.length);
            for (int from = 0; from < old.length; from += WIDTH) {
                if (old[from + 1] != 0) {
                    System.arraycopy(old, from, table, place(old[from], old[from + 1]), WIDTH);
                }
            }
        }

        void letOut(Arm arm, Out out) {
            for (int at = 0; at < table.length; at += WIDTH) {
                Sum sum = new Sum();
                sum.set(N, table[at + 2]);
                sum.set(XX, table[at + 3]);
                sum.set(XY, table[at + 4]);
                if (!sum.isNothing()) {
                    out.row(arm, (int) (table[at] >> 32), (int) table[at + 1] - 1, (int) table[at], sum);
                }
            }
        }
    }

    /** Sixteen sums. */
    static final class Sum {
        private final long[] low = new long[COUNT];
        private final long[] high = new long[COUNT];

        private void set(int place, long value) {
            low[place] = value;
            high[place] = value >> 63;
        }

        boolean isNothing() {
            for (int i = 0; i < COUNT; i++) {
                if (!isNothing(i)) {
                    return false;
                }
            }
            return true;
        }

        boolean isNothing(int place) {
            return (low[place] | high[place]) == 0;
        }

        /** Of those that fit. */
        long small(int place) {
            return low[place];
        }

        BigInteger get(int place) {
            BigInteger lower = BigInteger.valueOf(low[place]);
            if (high[place] == low[place] >> 63) {
                return lower;
            }
            BigInteger unsigned = low[place] < 0 ? lower.add(BigInteger.ONE.shiftLeft(64)) : lower;
            return BigInteger.valueOf(high[place]).shiftLeft(64).add(unsigned);
        }
    }

    /** Whether a sum and what is added to it fit 64 bits. */
    private static boolean fits(long sum, long lower, long upper) {
        long more = sum + lower;
        return upper == lower >> 63 && ((sum ^ more) & (lower ^ more)) >= 0;
    }

    private static long[] upper(long[] low) {
        long[] high = new long[low.length];
        for (int i = 0; i < low.length; i++) {
            high[i] = low[i] >> 63;
        }
        return high;
    }

    private static void plus(long[] low, long[] high, int place, long lower, long upper) {
        long sum = low[place] + lower;
        long more = upper + (Long.compareUnsigned(sum, lower) < 0 ? 1 : 0);
        if (more != 0) { // seldom, and the upper halves lie elsewhere
            high[place] += more;
        }
        low[place] = sum;
    }
}
