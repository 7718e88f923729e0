package headrace.experiments;

import java.util.ArrayList;
import java.util.List;

/** A version of a measurement. */
record Measurement(int day, long at, long id, long version, int[] numbers, long[] values) {

    static List<Measurement> list(int day, byte[] bytes) {
        List<Measurement> list = new ArrayList<>();
        if (bytes == null) {
            return list;
        }
        for (Bytes from = new Bytes(bytes); from.hasMore(); ) {
            long id = from.fixed();
            long version = from.number();
            long at = day * Unit.DAY_MS + from.number();
            int[] numbers = new int[(int) from.number()];
            long[] values = new long[numbers.length];
            for (int i = 0; i < numbers.length; i++) {
                numbers[i] = (int) from.number();
                values[i] = from.number();
            }
            list.add(new Measurement(day, at, id, version, numbers, values));
        }
        return list;
    }

    static byte[] bytes(List<Measurement> list) {
        Bytes to = new Bytes();
        list.forEach(one -> one.write(to));
        return to.bytes();
    }

    byte[] appended(byte[] before) {
        Bytes to = new Bytes();
        if (before != null) {
            to.raw(before);
        }
        write(to);
        return to.bytes();
    }

    private void write(Bytes to) {
        to.fixed(id).number(version).number(at - day * Unit.DAY_MS).number(numbers.length);
        for (int i = 0; i < numbers.length; i++) {
            to.number(numbers[i]).number(values[i]);
        }
    }

    /** Whether it takes the place of another version, of an earlier day or none that is later. */
    boolean isAfter(Measurement other) {
        return version != other.version ? version > other.version : day < other.day;
    }

    void touch(boolean[] touched) {
        for (int number : numbers) {
            touched[number] = true;
        }
    }

    /** 0 where that was not measured; looked for from a place on. */
    long value(int number, int from) {
        for (int i = from; i < from + numbers.length; i++) {
            int place = i < numbers.length ? i : i - numbers.length;
            if (numbers[place] == number) {
                return values[place];
            }
        }
        return 0;
    }
}
