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
    private int cells;

    /** How many there are. */
    int size() {
        return cells;
    }

    Cells of(Arm arm) {
        return arms.computeIfAbsent(arm, key -> new Cells());
    }

    void letOut(Out out) {
        arms.forEach((arm, of) -> of.letOut(arm, out));
        arms.clear();
        cells = 0;
    }

    /** The sums of one arm. Nearly all that is added belongs to the day it happened on, and to no bucket. */
    final class Cells {
        private final Map<Integer, Sum[]> days = new HashMap<>();
        private final Map<Place, Sum> buckets = new HashMap<>();
        private int lastDay = Integer.MIN_VALUE;
        private Sum[] last;

        Sum at(int day, int metric, int bucket) {
            if (bucket != WITHOUT_A_BUCKET) {
                return buckets.computeIfAbsent(new Place(day, metric, bucket), key -> made());
            }
            if (day != lastDay) {
                lastDay = day;
                last = days.computeIfAbsent(day, key -> new Sum[8]);
            }
            int place = metric + 1;
            if (place >= last.length) {
                last = Arrays.copyOf(last, Math.max(place + 1, 2 * last.length));
                days.put(day, last);
            }
            return last[place] == null ? last[place] = made() : last[place];
        }

        private Sum made() {
            cells++;
            return new Sum();
        }

        private void letOut(Arm arm, Out out) {
            days.forEach((day, sums) -> {
                for (int i = 0; i < sums.length; i++) {
                    if (sums[i] != null && !sums[i].isNothing()) {
                        out.row(arm, day, i - 1, WITHOUT_A_BUCKET, sums[i]);
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

    /** Sixteen sums. The upper halves are there once one of them needs it. */
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

        void add(Sum other) {
            for (int i = 0; i < COUNT; i++) {
                long upper = other.high == null ? other.low[i] >> 63 : other.high[i];
                if ((other.low[i] | upper) != 0) {
                    add(i, other.low[i], upper);
                }
            }
        }

        void subtract(Sum other) {
            for (int i = 0; i < COUNT; i++) {
                long upper = other.high == null ? other.low[i] >> 63 : other.high[i];
                if ((other.low[i] | upper) != 0) {
                    add(i, -other.low[i], ~upper + (other.low[i] == 0 ? 1 : 0));
                }
            }
        }

        void clear() {
            Arrays.fill(low, 0);
            high = null;
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
            long sum = low[place] + lower;
            if (high == null) {
                if (upper == lower >> 63 && ((low[place] ^ sum) & (lower ^ sum)) >= 0) {
                    low[place] = sum;
                    return;
                }
                high = new long[COUNT];
                for (int i = 0; i < COUNT; i++) {
                    high[i] = low[i] >> 63;
                }
            }
            high[place] += upper + (Long.compareUnsigned(sum, lower) < 0 ? 1 : 0);
            low[place] = sum;
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
}
