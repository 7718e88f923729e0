package headrace.experiments;

/** {@code buckets}: those of a unit's values of a quantile, in order. */
record Ranks(int[] buckets) {
    static final Ranks NONE = new Ranks(new int[0]);

    /** Takes what the sums of a bucket differ by. */
    interface Out {
        void bucket(int bucket, long n, long odd, long all);
    }

    /** By bucket: the number of values, the sum of 2i - 1 and that of m over those that are the i-th smallest of m; of this less those of another. */
    void less(Ranks other, Out out) {
        for (int i = 0, j = 0; i < buckets.length || j < other.buckets.length; ) {
            int bucket = i == buckets.length ? other.buckets[j] : j == other.buckets.length ? buckets[i] : Math.min(buckets[i], other.buckets[j]);
            int upto = end(i, bucket);
            int otherUpto = other.end(j, bucket);
            long n = upto - i;
            long otherN = otherUpto - j;
            out.bucket(bucket, n - otherN, n * (upto + i) - otherN * (otherUpto + j), n * buckets.length - otherN * other.buckets.length);
            i = upto;
            j = otherUpto;
        }
    }

    private int end(int from, int bucket) {
        int end = from;
        while (end < buckets.length && buckets[end] == bucket) {
            end++;
        }
        return end;
    }
}
