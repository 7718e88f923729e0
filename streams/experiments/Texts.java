package headrace.experiments;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Texts by their bytes: one that was met of late is the same instance again, so that it need not be made and hashed anew. */
final class Texts {
    private static final int SIZE = 1 << 14;

    private final byte[][] known = new byte[SIZE][];
    private final String[] texts = new String[SIZE];

    String of(byte[] bytes, int from, int to) {
        int hash = 0;
        for (int i = from; i < to; i++) {
            hash = 31 * hash + bytes[i];
        }
        int place = (hash ^ hash >>> 14) & SIZE - 1;
        byte[] met = known[place];
        if (met == null || !Arrays.equals(met, 0, met.length, bytes, from, to)) {
            known[place] = Arrays.copyOfRange(bytes, from, to);
            texts[place] = new String(bytes, from, to - from, StandardCharsets.UTF_8);
        }
        return texts[place];
    }
}
