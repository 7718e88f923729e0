package headrace.recommendations;

import java.util.Arrays;

/** A text as its UTF-8: ordered by code points, as Python orders texts, which Java's own do not. */
record Text(byte[] bytes) implements Comparable<Text> {

    @Override
    public int compareTo(Text other) {
        return Arrays.compareUnsigned(bytes, other.bytes);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Text text && Arrays.equals(bytes, text.bytes);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(bytes);
    }

    /** MurmurHash3_x86_32 (A. Appleby, 2008), unsigned. */
    long murmur3() {
        int hash = 0;
        int whole = bytes.length & ~3;
        for (int at = 0; at < whole; at += 4) {
            hash = Integer.rotateLeft(hash ^ mixed(word(at, 4)), 13) * 5 + 0xe6546b64;
        }
        if (whole < bytes.length) {
            hash ^= mixed(word(whole, bytes.length - whole));
        }
        hash ^= bytes.length;
        hash = (hash ^ hash >>> 16) * 0x85ebca6b;
        hash = (hash ^ hash >>> 13) * 0xc2b2ae35;
        return Integer.toUnsignedLong(hash ^ hash >>> 16);
    }

    private int word(int at, int length) {
        int word = 0;
        for (int i = 0; i < length; i++) {
            word |= (bytes[at + i] & 0xff) << 8 * i;
        }
        return word;
    }

    private static int mixed(int word) {
        return Integer.rotateLeft(word * 0xcc9e2d51, 15) * 0x1b873593;
    }
}
