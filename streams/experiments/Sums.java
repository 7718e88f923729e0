package headrace.experiments;

import java.math.BigInteger;
import java.util.Arrays;
import java.util.HashMap;
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

    /** A variation and a segment: {@code experiment} is experiment.phase, {@code segment} names and values one after the other. */
    record Arm(String experiment, String variation, String segment) {}

    /** Takes what is let out; {@code sums} is good for the call only. */
    interface Out {
        void row(Arm arm, int day, int metric, int bucket, Sum sums);
    }

    private record Place(int day, int metric, int bucket) {}

    private final Map<Arm, Cells> arms = new HashMap<>();
    private long bytes;

    /** About how much memory they take. */
    long bytes() {
        return bytes;
    }

    Cells of(Arm arm) {
        return arms.computeIfAbsent(arm, key -> new Cells());
    }

    void letOut(Out out) {
        arms.forEach((arm, of) -> of.letOut(arm, out));
        arms.clear();
        bytes = 0;
    }

    /** What one change adds, told once for all arms that it goes to: by day, metric and bucket. */
    static final class Change {
        private int[] places = new int[512];
        private long[] lows = new long[512];
        private long[] highs = new long[512];
        private int count;
        private final Map<Place, Sum> buckets = new HashMap<>();
        private int day;

        /** Begin, for what has no bucket. */
        void on(int day) {
            this.day = day;
            count = 0;
            buckets.clear();
        }

        void add(int metric, int bucket, Sum sum, int sign) {
            if (bucket != WITHOUT_A_BUCKET) {
                buckets.computeIfAbsent(new Place(day, metric, bucket), key -> new Sum()).add(sum, sign);
                return;
            }
            for (int i = 0; i < COUNT; i++) {
                long low = sum.low[i];
                long high = sum.high == null ? low >> 63 : sum.high[i];
                if ((low | high) == 0) {
                    continue;
                }
                if (count == places.length) {
                    places = Arrays.copyOf(places, 2 * count);
                    lows = Arrays.copyOf(lows, 2 * count);
                    highs = Arrays.copyOf(highs, 2 * count);
                }
                places[count] = (metric + 1) * COUNT + i;
                lows[count] = sign < 0 ? -low : low;
                highs[count++] = sign < 0 ? ~high + (low == 0 ? 1 : 0) : high;
            }
        }
    }

    /** The sums of one arm. Nearly all that is added belongs to the day it happened on, and to no bucket: those sums lie side by side. */
    final class Cells {
        private final Map<Integer, Block> days = new HashMap<>();
        private final Map<Place, Sum> buckets = new HashMap<>();
        private int lastDay = Integer.MIN_VALUE;
        private Block last;

        void add(int day, int metric, int sum, long value) {
            block(day).add((metric + 1) * COUNT + sum, value, value >> 63);
        }

        void add(Change change) {
            if (change.count > 0) {
                Block block = block(change.day);
                for (int i = 0; i < change.count; i++) {
                    block.add(change.places[i], change.lows[i], change.highs[i]);
                }
            }
            change.buckets.forEach((place, sum) -> buckets.computeIfAbsent(place, key -> {
                bytes += 300;
                return new Sum();
            }).add(sum, 1));
        }

        private Block block(int day) {
            if (day != lastDay) {
                lastDay = day;
                last = days.computeIfAbsent(day, key -> new Block());
            }
            return last;
        }

        private void letOut(Arm arm, Out out) {
            days.forEach((day, block) -> {
                for (int i = 0; i < block.low.length; i += COUNT) {
                    Sum sum = block.sum(i);
                    if (!sum.isNothing()) {
                        out.row(arm, day, i / COUNT - 1, WITHOUT_A_BUCKET, sum);
                    }
                }
            });
            buckets.forEach((place, sum) -> {
                if (!sum.isNothing()) {
                    out.row(arm, place.day, place.metric, place.bucket, sum);
                }
            });
        }
    }

    /** The sums of all metrics of a day. The upper halves are there once one of them needs it. */
    private final class Block {
        private long[] low = {};
        private long[] high;

        void add(int place, long lower, long upper) {
            if (place >= low.length) {
                int length = Math.max((place / COUNT + 1) * COUNT, 2 * low.length);
                bytes += 8L * (length - low.length);
                low = Arrays.copyOf(low, length);
                high = high == null ? null : Arrays.copyOf(high, length);
            }
            if (high == null && !fits(low[place], lower, upper)) {
                bytes += 8L * low.length;
                high = upper(low);
            }
            plus(low, high, place, lower, upper);
        }

        Sum sum(int from) {
            Sum sum = new Sum();
            System.arraycopy(low, from, sum.low, 0, COUNT);
            sum.high = high == null ? null : Arrays.copyOfRange(high, from, from + COUNT);
            return sum;
        }
    }

    /** Sixteen sums. */
    static final class Sum {
        private final long[] low = new long[COUNT];
        private long[] high;

        void add(int place, long value) {
            add(place, value, value >> 63);
        }

        /** Add a times b. */
        void product(int place, int sign, long a, long b) {
            if (a == 0 || b == 0) {
                return;
            }
            long lower = a * b;
            long upper = Math.multiplyHigh(a, b);
            if (sign < 0) {
                lower = -lower;
                upper = ~upper + (lower == 0 ? 1 : 0);
            }
            add(place, lower, upper);
        }

        void add(Sum other, int sign) {
            for (int i = 0; i < COUNT; i++) {
                long lower = other.low[i];
                long upper = other.high == null ? lower >> 63 : other.high[i];
                if ((lower | upper) != 0) {
                    add(i, sign < 0 ? -lower : lower, sign < 0 ? ~upper + (lower == 0 ? 1 : 0) : upper);
                }
            }
        }

        boolean isNothing() {
            return nothing(low) && (high == null || nothing(high));
        }

        long small(int place) {
            return low[place];
        }

        BigInteger get(int place) {
            BigInteger lower = BigInteger.valueOf(low[place]);
            if (high == null || high[place] == low[place] >> 63) {
                return lower;
            }
            BigInteger unsigned = low[place] < 0 ? lower.add(BigInteger.ONE.shiftLeft(64)) : lower;
            return BigInteger.valueOf(high[place]).shiftLeft(64).add(unsigned);
        }

        private void add(int place, long lower, long upper) {
            if (high == null && !fits(low[place], lower, upper)) {
                high = upper(low);
            }
            plus(low, high, place, lower, upper);
        }

        private static boolean nothing(long[] sums) {
            for (long sum : sums) {
                if (sum != 0) {
                    return false;
                }
            }
            return true;
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
        if (high != null) {
            high[place] += upper + (Long.compareUnsigned(sum, lower) < 0 ? 1 : 0);
        }
        low[place] = sum;
    }
}
