package headrace.experiments;

import java.util.Map;
import java.util.TreeMap;

/**
 * What is held of a unit, in as few reads as it takes: what it has met, with the weeks in which something was measured of it, and a value for each week.
 *
 * <p>To look through a unit's days one after another costs RocksDB more than everything else that a measurement does: an iterator has to look into every file,
 * where a key that is known is asked for by a filter.
 */
final class Weeks {
    private static final int DAYS = 8;

    /** What the value of a unit begins with. Before there were weeks it began with a time: 0, or -64 or -1 where that is before 1970. */
    private static final byte[] FORM = {2};

    /** The state of one unit. */
    interface Store {
        /** Null: nothing yet. */
        byte[] unit() throws Exception;

        void unit(byte[] bytes) throws Exception;

        /** Null where it was let go. */
        byte[] week(int week) throws Exception;

        void week(int week, byte[] bytes) throws Exception;

        void forget(int week) throws Exception;

        /** Days, as they were kept before there were weeks; no more once they were taken. */
        Map<Integer, byte[]> takeDays() throws Exception;
    }

    private final Store store;
    private final TreeMap<Integer, TreeMap<Integer, byte[]>> weeks = new TreeMap<>();
    private byte[] met;

    Weeks(Store store) {
        this.store = store;
    }

    /** Reads anew: the store may be another unit's by now. */
    byte[] met() throws Exception {
        weeks.clear();
        met = null;
        byte[] all = store.unit();
        if (all == null) {
            return null;
        }
        Bytes from = new Bytes(all);
        if (all[0] != FORM[0]) {
            met = all;
            for (Map.Entry<Integer, byte[]> one : store.takeDays().entrySet()) {
                day(one.getKey(), one.getValue());
            }
            met(all);
            return met;
        }
        from.raw(FORM.length);
        for (long count = from.number(); count > 0; count--) {
            weeks.put((int) from.number(), null);
        }
        met = from.rest();
        return met;
    }

    void met(byte[] bytes) throws Exception {
        met = bytes;
        Bytes to = new Bytes().raw(FORM).number(weeks.size());
        weeks.keySet().forEach(to::number);
        store.unit(to.raw(met).bytes());
    }

    /** Null where nothing was. */
    byte[] day(int day) throws Exception {
        int week = Math.floorDiv(day, DAYS);
        return weeks.containsKey(week) ? days(week).get(day) : null;
    }

    void day(int day, byte[] bytes) throws Exception {
        int week = Math.floorDiv(day, DAYS);
        boolean isNew = !weeks.containsKey(week);
        if (isNew) {
            weeks.put(week, new TreeMap<>());
        }
        TreeMap<Integer, byte[]> days = days(week);
        days.put(day, bytes);
        write(week, days);
        if (isNew) {
            again();
        }
    }

    void forget(int day) throws Exception {
        int week = Math.floorDiv(day, DAYS);
        if (day(day) == null) {
            return;
        }
        TreeMap<Integer, byte[]> days = days(week);
        days.remove(day);
        if (!days.isEmpty()) {
            write(week, days);
            return;
        }
        weeks.remove(week);
        store.forget(week);
        again();
    }

    /** By day, to be changed by whoever asks. */
    TreeMap<Integer, byte[]> days() throws Exception {
        TreeMap<Integer, byte[]> all = new TreeMap<>();
        for (int week : weeks.keySet().toArray(Integer[]::new)) {
            all.putAll(days(week));
        }
        return all;
    }

    /** Its weeks are others: a unit that has met nothing yet will be told. */
    private void again() throws Exception {
        if (met != null) {
            met(met);
        }
    }

    private TreeMap<Integer, byte[]> days(int week) throws Exception {
        TreeMap<Integer, byte[]> days = weeks.get(week);
        if (days == null) {
            days = new TreeMap<>();
            byte[] bytes = store.week(week);
            for (Bytes from = new Bytes(bytes == null ? Bytes.NOTHING : bytes); from.hasMore(); ) {
                days.put((int) from.number(), from.raw((int) from.number()));
            }
            weeks.put(week, days);
        }
        return days;
    }

    private void write(int week, TreeMap<Integer, byte[]> days) throws Exception {
        Bytes to = new Bytes();
        days.forEach((day, bytes) -> to.number(day).number(bytes.length).raw(bytes));
        store.week(week, to.bytes());
    }
}
