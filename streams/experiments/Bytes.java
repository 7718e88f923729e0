package headrace.experiments;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Numbers and texts as few bytes, one after another: to be written, or to be read in the same order. */
final class Bytes {
    static final byte[] NOTHING = {};

    private byte[] bytes;
    private int at;

    Bytes() {
        this(new byte[256]);
    }

    Bytes(byte[] bytes) {
        this.bytes = bytes;
    }

    boolean hasMore() {
        return at < bytes.length;
    }

    /** What was written. */
    byte[] bytes() {
        return Arrays.copyOf(bytes, at);
    }

    Bytes raw(byte[] more) {
        room(more.length);
        System.arraycopy(more, 0, bytes, at, more.length);
        at += more.length;
        return this;
    }

    byte[] raw(int length) {
        at += length;
        return Arrays.copyOfRange(bytes, at - length, at);
    }

    /** All that has not been read. */
    byte[] rest() {
        return raw(bytes.length - at);
    }

    /** Eight bytes. */
    Bytes fixed(long value) {
        room(Long.BYTES);
        for (int shift = 56; shift >= 0; shift -= 8) {
            bytes[at++] = (byte) (value >> shift);
        }
        return this;
    }

    long fixed() {
        long value = 0;
        for (int i = 0; i < Long.BYTES; i++) {
            value = value << 8 | bytes[at++] & 0xff;
        }
        return value;
    }

    /** The fewer the nearer to 0, as Avro has it. */
    Bytes number(long value) {
        room(10);
        long rest = value << 1 ^ value >> 63;
        for (; (rest & ~0x7fL) != 0; rest >>>= 7) {
            bytes[at++] = (byte) (rest | 0x80);
        }
        bytes[at++] = (byte) rest;
        return this;
    }

    long number() {
        long rest = 0;
        for (int shift = 0; ; shift += 7) {
            byte next = bytes[at++];
            rest |= (next & 0x7fL) << shift;
            if (next >= 0) {
                return rest >>> 1 ^ -(rest & 1);
            }
        }
    }

    Bytes text(String text) {
        byte[] encoded = text.getBytes(StandardCharsets.UTF_8);
        return number(encoded.length).raw(encoded);
    }

    String text() {
        int length = (int) number();
        at += length;
        return new String(bytes, at - length, length, StandardCharsets.UTF_8);
    }

    /** The same, of those that were met before. */
    String text(Texts texts) {
        int length = (int) number();
        at += length;
        return texts.of(bytes, at - length, at);
    }

    private void room(int more) {
        if (at + more > bytes.length) {
            bytes = Arrays.copyOf(bytes, Math.max(at + more, 2 * bytes.length));
        }
    }
}
