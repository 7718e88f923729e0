package headrace.experiments;

/** 64 bits for what a measurement is known by: of 10,000 measurements of a unit two are taken for one once in 10¹¹ units. */
final class Identity {
    private Identity() {}

    static long of(byte[] source, byte[] id) {
        return mixed(mixed(0x9E3779B97F4A7C15L, source), id);
    }

    /** FNV-1a, with the finaliser of splitmix64 after each eight bytes. */
    private static long mixed(long from, byte[] text) {
        long hash = from ^ text.length;
        for (int i = 0; i < text.length; i++) {
            hash = (hash ^ text[i] & 0xff) * 0x100000001B3L;
            if ((i & 7) == 7) {
                hash = finished(hash);
            }
        }
        return finished(hash);
    }

    private static long finished(long hash) {
        long h = (hash ^ hash >>> 30) * 0xBF58476D1CE4E5B9L;
        h = (h ^ h >>> 27) * 0x94D049BB133111EBL;
        return h ^ h >>> 31;
    }
}
