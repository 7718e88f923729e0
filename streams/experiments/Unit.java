package headrace.experiments;

import headrace.experiments.Metrics.Kind;
import headrace.experiments.Metrics.Metric;
import headrace.experiments.Sums.Arm;
import headrace.experiments.Sums.Cells;
import headrace.experiments.Sums.Sum;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * What does a record of a unit change in the sums of its experiments? The rules are those of streams/experiments/batch.py.
 *
 * <p>A unit's part of the sums is a function of the set of its exposures and measurements. With each record the function is evaluated for what was known
 * before and for what is known now, from the first day on that can differ, and the difference is added to {@link Sums}.
 *
 * <p>What is too late is judged by the unit's records of the same topic alone, whose order is the log's: how far the one topic is read before the other is chance.
 * An exposure whose longest window ended so long ago in both that nothing of it can come any more is over, and its part stands. What no exposure can need
 * any more is forgotten.
 */
final class Unit {
    static final long DAY_MS = 86_400_000;

    private static final long NEVER = Long.MAX_VALUE;
    private static final int NO_DAY = Integer.MAX_VALUE;

    /** Where the state is. */
    interface Held {
        byte[] met() throws Exception;

        void met(byte[] bytes) throws Exception;

        byte[] day(int day) throws Exception;

        void day(int day, byte[] bytes) throws Exception;

        void forget(int day) throws Exception;

        Iterable<Map.Entry<Integer, byte[]>> days() throws Exception;
    }

    private final Metrics metrics;
    private final Held held;
    private final Sums sums;
    private final Met met;

    Unit(Metrics metrics, Held held, Sums sums) throws Exception {
        this.metrics = metrics;
        this.held = held;
        this.sums = sums;
        byte[] bytes = held.met();
        met = bytes == null ? new Met() : Met.read(new Bytes(bytes));
    }

    /** {@code variations}: experiment.phase to variation; {@code segment}: names and values, in order of the names. */
    void expose(long at, String id, String segment, Map<String, String> variations) throws Exception {
        if (isTooLate(at, met.newestExposure)) {
            return;
        }
        Map<String, First> before = met.firsts();
        boolean news = false;
        Moment moment = new Moment(at, id, segment);
        for (Map.Entry<String, String> one : variations.entrySet()) {
            if (hasPhase(one.getKey())) {
                news |= met.add(moment, one.getKey(), one.getValue());
            }
        }
        boolean passed = at > met.newestExposure;
        if (passed) {
            passTo(at, met.newestMeasurement);
        }
        if (passed || news) {
            met.write(held);
        }
        if (!news) {
            return;
        }
        List<First> left = new ArrayList<>();
        List<First> come = new ArrayList<>();
        Map<String, First> after = met.firsts();
        for (String experiment : variations.keySet()) {
            First was = before.get(experiment);
            First is = after.get(experiment);
            if (is != null && !is.equals(was)) {
                come.add(is);
                if (was != null) {
                    left.add(was);
                }
            }
        }
        List<Measured> known = standing(days());
        part(left, known, null);
        part(come, null, known);
    }

    /** {@code numbers}: of what was measured, as in {@link Metrics}. */
    void measure(long at, long id, long version, int[] numbers, long[] values) throws Exception {
        if (isTooLate(at, met.newestMeasurement)) {
            return;
        }
        int day = day(at);
        boolean passed = at > met.newestMeasurement;
        if (passed) {
            passTo(met.newestExposure, at);
        }
        if (met.busy.contains(day)) {
            if (passed) {
                met.write(held);
            }
            return;
        }
        Measured one = new Measured(day, at, id, version, numbers, values);
        byte[] bytes = held.day(day);
        List<Measured> ofDay = Measured.list(day, bytes);
        int place = place(ofDay, id);
        if (place >= 0 && ofDay.get(place).version >= version) {
            if (passed) {
                met.write(held);
            }
            return;
        }
        boolean tooMany = place < 0 && ofDay.size() >= metrics.mostADay;
        List<First> open = new ArrayList<>();
        for (First first : met.firsts().values()) {
            if (!isOver(first.moment.at)) {
                open.add(first);
            }
        }
        TreeMap<Integer, List<Measured>> days = open.isEmpty() ? new TreeMap<>() : days();
        List<Measured> old = standing(days);
        if (tooMany) {
            part(open, old, null);
            met.busy.add(day);
            held.day(day, Bytes.NOTHING);
        } else if (place < 0) {
            held.day(day, one.appended(bytes));
        } else {
            ofDay.set(place, one);
            held.day(day, Measured.bytes(ofDay));
        }
        if (passed || tooMany) {
            met.write(held);
        }
        if (open.isEmpty()) {
            return;
        }
        if (tooMany) {
            days.remove(day);
            part(open, null, standing(days));
            return;
        }
        boolean[] touched = new boolean[metrics.size()];
        one.touch(touched);
        int from = day;
        for (Measured other : old) {
            if (other.id == id) {
                other.touch(touched);
                from = Math.min(from, other.day);
            }
        }
        List<Measured> now = days.computeIfAbsent(day, key -> new ArrayList<>());
        if (place < 0) {
            now.add(one);
        } else {
            now.set(place, one);
        }
        List<Measured> known = standing(days);
        for (Map.Entry<Group, List<Cells>> group : groups(open).entrySet()) {
            new Difference(group.getKey(), group.getValue(), touched).from(from, old, known);
        }
    }

    private boolean isTooLate(long at, long newest) {
        if (at >= newest - metrics.latestMs) {
            return false;
        }
        sums.of(new Arm(".0", "", "")).add(day(at), Sums.UNITS, Sums.N, 1);
        return true;
    }

    /** Forget what nothing that may still come can need, now that the two topics have come to where they are. */
    private void passTo(long exposure, long measurement) throws Exception {
        long before = met.passed();
        met.newestExposure = exposure;
        met.newestMeasurement = measurement;
        long now = met.passed();
        if (now == Met.NOTHING_YET || day(before) == day(now)) {
            return;
        }
        int first = day(now - metrics.keptMs());
        List<Integer> gone = new ArrayList<>();
        for (Map.Entry<Integer, byte[]> one : held.days()) {
            if (one.getKey() < first) {
                gone.add(one.getKey());
            }
        }
        for (int day : gone) {
            held.forget(day);
            met.busy.remove(day);
        }
    }

    /** Whether nothing of its part can come any more. */
    private boolean isOver(long exposedAt) {
        return exposedAt + metrics.openMs() < met.passed();
    }

    /** What all that is known comes to for exposures, with {@code old} taken away and {@code now} added; null is nothing at all. */
    private void part(Collection<First> firsts, List<Measured> old, List<Measured> now) {
        List<First> counted = new ArrayList<>();
        for (First first : firsts) {
            int sign = now == null ? -1 : 1;
            Cells cells = sums.of(first.arm());
            int day = day(first.moment.at);
            if (isBusy(first.moment.at)) {
                cells.add(day, Sums.UNITS, Sums.Y, sign);
                continue;
            }
            counted.add(first);
            cells.add(day, Sums.UNITS, Sums.N, sign);
            int ends = ends(first);
            if (ends != NO_DAY) {
                cells.add(ends, Sums.UNITS, Sums.N, -sign);
                cells.add(ends, Sums.UNITS, Sums.X, sign);
            }
        }
        boolean[] all = new boolean[metrics.size()];
        Arrays.fill(all, true);
        for (Map.Entry<Group, List<Cells>> group : groups(counted).entrySet()) {
            new Difference(group.getKey(), group.getValue(), all).from(Integer.MIN_VALUE, old, now);
        }
    }

    /** Exposures that have the same part in all sums, and where it belongs. */
    private Map<Group, List<Cells>> groups(Collection<First> firsts) {
        Map<Group, List<Cells>> groups = new LinkedHashMap<>();
        for (First first : firsts) {
            if (!isBusy(first.moment.at)) {
                groups.computeIfAbsent(new Group(first.moment.at, ends(first)), key -> new ArrayList<>()).add(sums.of(first.arm()));
            }
        }
        return groups;
    }

    private boolean isBusy(long exposedAt) {
        return !met.busy.isEmpty()
                && !met.busy.subSet(day(exposedAt - metrics.covariateMs), true, day(exposedAt + metrics.windowMs - 1), true).isEmpty();
    }

    /** The day on which the unit leaves, because it met another variation. */
    private int ends(First first) {
        return first.otherAt < first.moment.at + metrics.windowMs ? day(first.otherAt) : NO_DAY;
    }

    private TreeMap<Integer, List<Measured>> days() throws Exception {
        TreeMap<Integer, List<Measured>> days = new TreeMap<>();
        for (Map.Entry<Integer, byte[]> one : held.days()) {
            if (one.getValue().length > 0) {
                days.put(one.getKey(), Measured.list(one.getKey(), one.getValue()));
            }
        }
        return days;
    }

    /** Of each measurement the version that counts, by day. */
    private static List<Measured> standing(TreeMap<Integer, List<Measured>> days) {
        List<Measured> all = new ArrayList<>();
        Map<Long, Measured> newest = new HashMap<>();
        boolean superseded = false;
        for (List<Measured> ofDay : days.values()) {
            for (Measured one : ofDay) {
                all.add(one);
                if (days.size() > 1) {
                    Measured known = newest.putIfAbsent(one.id, one);
                    superseded |= known != null;
                    if (known != null && one.version > known.version) {
                        newest.put(one.id, one);
                    }
                }
            }
        }
        if (superseded) {
            all.removeIf(one -> newest.get(one.id) != one);
        }
        return all;
    }

    private static int place(List<Measured> ofDay, long id) {
        for (int i = 0; i < ofDay.size(); i++) {
            if (ofDay.get(i).id == id) {
                return i;
            }
        }
        return -1;
    }

    private static int day(long at) {
        return (int) Math.floorDiv(at, DAY_MS);
    }

    private static boolean hasPhase(String experiment) {
        int dot = experiment.lastIndexOf('.');
        int digits = experiment.length() - dot - 1;
        return dot > 0 && digits > 0 && digits < 10 && experiment.chars().skip(dot + 1).allMatch(c -> c >= '0' && c <= '9');
    }

    private record Group(long at, int ends) {}

    /** What a group's part differs by, between what was known and what is. */
    private final class Difference {
        private final Group group;
        private final List<Cells> cells;
        private final boolean[] touched;
        private final int exposedOn;
        private final Sums.Change change = new Sums.Change();

        Difference(Group group, List<Cells> cells, boolean[] touched) {
            this.group = group;
            this.cells = cells;
            this.touched = touched;
            exposedOn = day(group.at);
        }

        void from(int from, List<Measured> old, List<Measured> now) {
            Side was = new Side(old);
            Side is = new Side(now);
            @SuppressWarnings("unchecked")
            Map<Integer, Sum>[] last = new Map[metrics.size()];
            for (int day; (day = Math.min(was.nextDay(), is.nextDay())) < group.ends; ) {
                was.feed(day);
                is.feed(day);
                if (day < from) {
                    continue;
                }
                change.on(day);
                for (int i = 0; i < touched.length; i++) {
                    if (touched[i] && (was.news(i) | is.news(i))) {
                        Map<Integer, Sum> by = by(i, was, is);
                        tell(i, by, 1);
                        tell(i, last[i], -1);
                        last[i] = by;
                    }
                }
                tellAll();
            }
            change.on(group.ends != NO_DAY ? group.ends : exposedOn);
            for (int i = 0; i < touched.length; i++) {
                Metric metric = metrics.get(i);
                if (group.ends != NO_DAY) {
                    tell(i, last[i], -1);
                } else if (touched[i] && metric != null && metric.kind() == Kind.TIME_TO_EVENT) {
                    Map<Integer, Sum> by = new HashMap<>();
                    was.time(i, by, -1);
                    is.time(i, by, 1);
                    tell(i, by, 1);
                }
            }
            tellAll();
        }

        private Map<Integer, Sum> by(int metric, Side was, Side is) {
            Map<Integer, Sum> by = new HashMap<>(4);
            was.add(metric, by, -1);
            is.add(metric, by, 1);
            return by;
        }

        private void tell(int metric, Map<Integer, Sum> by, int sign) {
            if (by != null) {
                by.forEach((bucket, sum) -> change.add(metric, bucket, sum, sign));
            }
        }

        private void tellAll() {
            for (Cells of : cells) {
                of.add(change);
            }
        }

        /** One of the two, as it comes to be in the order of days. */
        private final class Side {
            private final List<Measured> measured;
            private final Running[] running = new Running[metrics.size()];
            private final boolean isThere;
            private int next;

            Side(List<Measured> measured) {
                this.measured = measured == null ? List.of() : measured;
                isThere = measured != null;
            }

            int nextDay() {
                return next == measured.size() ? NO_DAY : Math.max(exposedOn, measured.get(next).day);
            }

            void feed(int day) {
                while (nextDay() == day && day != NO_DAY) {
                    Measured one = measured.get(next++);
                    for (int i = 0; i < one.numbers.length; i++) {
                        int number = one.numbers[i];
                        Metric metric = metrics.get(number);
                        if (metric == null || !touched[number]) {
                            continue;
                        }
                        long since = one.at - group.at;
                        if (since >= 0 ? since < metric.windowMs() : -since <= metric.covariateMs()) {
                            Running to = running[number] == null ? running[number] = new Running() : running[number];
                            to.take(metric, since, one.values[i], metric.below() < 0 ? 0 : one.value(metric.below()));
                        }
                    }
                }
            }

            /** Whether something of the metric has come since this was asked. */
            boolean news(int metric) {
                boolean news = running[metric] != null && running[metric].news;
                if (news) {
                    running[metric].news = false;
                }
                return news;
            }

            void add(int number, Map<Integer, Sum> by, int sign) {
                if (running[number] != null) {
                    running[number].add(metrics.get(number), by, sign);
                }
            }

            void time(int number, Map<Integer, Sum> by, int sign) {
                if (!isThere) {
                    return;
                }
                Sum sum = by.computeIfAbsent(Sums.WITHOUT_A_BUCKET, key -> new Sum());
                sum.add(Sums.N, sign);
                Running of = running[number];
                if (of != null && of.after > 0) {
                    sum.add(Sums.MEASURED, sign);
                }
                if (of != null && of.firstMs != NEVER) {
                    int interval = (int) (of.firstMs / metrics.get(number).intervalMs());
                    by.computeIfAbsent(interval, key -> new Sum()).add(Sums.N, sign);
                }
            }
        }
    }

    /** What a unit's measurements of a metric come to. */
    private final class Running {
        int after;
        int before;
        boolean news;
        long firstMs = NEVER;
        private long x;
        private long y;
        private long u;
        private long v;
        private int[] buckets = {};
        private int values;

        void take(Metric metric, long sinceMs, long value, long below) {
            news = true;
            long told =
                    switch (metric.kind()) {
                        case COUNT -> 1;
                        case PROPORTION -> value == 0 ? 0 : 1;
                        default -> value;
                    };
            if (sinceMs < 0) {
                before++;
                u += told;
                v += below;
                return;
            }
            after++;
            x += told;
            y += below;
            if (metric.kind() == Kind.QUANTILE) {
                if (values == buckets.length) {
                    buckets = Arrays.copyOf(buckets, 2 * values + 4);
                }
                buckets[values++] = bucket(Math.max(0, value));
            } else if (metric.kind() == Kind.TIME_TO_EVENT && value != 0) {
                firstMs = Math.min(firstMs, sinceMs);
            }
        }

        void add(Metric metric, Map<Integer, Sum> by, int sign) {
            switch (metric.kind()) {
                case QUANTILE -> ranks(by, sign);
                case TIME_TO_EVENT -> {}
                case MEAN -> values(metric, by, sign, halfEven(x, after), halfEven(u, before));
                case PROPORTION -> values(metric, by, sign, Math.min(x, 1), Math.min(u, 1));
                default -> values(metric, by, sign, x, u);
            }
        }

        private void values(Metric metric, Map<Integer, Sum> by, int sign, long wholeX, long wholeU) {
            if (metric.needsAValue() ? after == 0 : after + before == 0) {
                return;
            }
            long x = bounded(wholeX);
            long y = bounded(this.y);
            long u = bounded(wholeU);
            long v = bounded(this.v);
            Sum to = by.computeIfAbsent(Sums.WITHOUT_A_BUCKET, key -> new Sum());
            to.add(Sums.N, sign);
            to.add(Sums.MEASURED, after > 0 ? sign : 0);
            to.add(Sums.X, sign * x);
            to.add(Sums.Y, sign * y);
            to.add(Sums.U, sign * u);
            to.add(Sums.V, sign * v);
            to.product(Sums.XX, sign, x, x);
            to.product(Sums.YY, sign, y, y);
            to.product(Sums.UU, sign, u, u);
            to.product(Sums.VV, sign, v, v);
            to.product(Sums.XY, sign, x, y);
            to.product(Sums.XU, sign, x, u);
            to.product(Sums.XV, sign, x, v);
            to.product(Sums.YU, sign, y, u);
            to.product(Sums.YV, sign, y, v);
            to.product(Sums.UV, sign, u, v);
        }

        private long bounded(long value) {
            return Math.max(-metrics.largest, Math.min(value, metrics.largest));
        }

        private void ranks(Map<Integer, Sum> by, int sign) {
            if (values == 0) {
                return;
            }
            Sum unit = by.computeIfAbsent(Sums.WITHOUT_A_BUCKET, key -> new Sum());
            unit.add(Sums.N, sign);
            unit.add(Sums.MEASURED, sign);
            Arrays.sort(buckets, 0, values);
            for (int begin = 0, end; begin < values; begin = end) {
                end = begin + 1;
                while (end < values && buckets[end] == buckets[begin]) {
                    end++;
                }
                Sum to = by.computeIfAbsent(buckets[begin], key -> new Sum());
                to.add(Sums.N, sign * (end - begin));
                to.add(Sums.XX, sign * ((long) end * end - (long) begin * begin));
                to.add(Sums.XY, sign * (long) (end - begin) * values);
            }
        }

        /** As streams.playback.minute.bucket. */
        private static int bucket(long value) {
            int shift = Math.max(0, Long.SIZE - Long.numberOfLeadingZeros(value) - 6);
            return (shift << 5) + (int) (value >> shift);
        }

        private static long halfEven(long total, int count) {
            if (count == 0) {
                return 0;
            }
            long whole = Math.floorDiv(total, count);
            long twice = 2 * Math.floorMod(total, count);
            return whole + (twice > count || twice == count && (whole & 1) != 0 ? 1 : 0);
        }
    }

    /** A version of a measurement. */
    private record Measured(int day, long at, long id, long version, int[] numbers, long[] values) {

        static List<Measured> list(int day, byte[] bytes) {
            List<Measured> list = new ArrayList<>();
            if (bytes == null) {
                return list;
            }
            for (Bytes from = new Bytes(bytes); from.hasMore(); ) {
                long id = from.fixed();
                long version = from.number();
                long at = day * DAY_MS + from.number();
                int[] numbers = new int[(int) from.number()];
                long[] values = new long[numbers.length];
                for (int i = 0; i < numbers.length; i++) {
                    numbers[i] = (int) from.number();
                    values[i] = from.number();
                }
                list.add(new Measured(day, at, id, version, numbers, values));
            }
            return list;
        }

        static byte[] bytes(List<Measured> list) {
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
            to.fixed(id).number(version).number(at - day * DAY_MS).number(numbers.length);
            for (int i = 0; i < numbers.length; i++) {
                to.number(numbers[i]).number(values[i]);
            }
        }

        void touch(boolean[] touched) {
            for (int number : numbers) {
                touched[number] = true;
            }
        }

        /** 0 where that was not measured. */
        long value(int number) {
            for (int i = 0; i < numbers.length; i++) {
                if (numbers[i] == number) {
                    return values[i];
                }
            }
            return 0;
        }
    }

    /** An exposure; {@code variations}: those by experiment.phase that no earlier one told. */
    private record Moment(long at, String id, String segment, Map<String, String> variations) implements Comparable<Moment> {
        Moment(long at, String id, String segment) {
            this(at, id, segment, new LinkedHashMap<>());
        }

        @Override
        public int compareTo(Moment other) {
            return at != other.at ? Long.compare(at, other.at) : id.compareTo(other.id);
        }
    }

    /** The first exposure to a phase of an experiment, and when another of its variations was met. */
    private record First(String experiment, String variation, Moment moment, long otherAt) {
        Arm arm() {
            return new Arm(experiment, variation, moment.segment);
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof First is && variation.equals(is.variation) && moment.at == is.moment.at && otherAt == is.otherAt
                    && moment.segment.equals(is.moment.segment);
        }

        @Override
        public int hashCode() {
            return experiment.hashCode();
        }
    }

    /** What a unit has met: of each variation of each phase the earliest exposure. */
    private static final class Met {
        static final long NOTHING_YET = Long.MIN_VALUE / 2;

        long newestExposure = NOTHING_YET;
        long newestMeasurement = NOTHING_YET;
        /** Days with more measurements than a person has. */
        final TreeSet<Integer> busy = new TreeSet<>();
        /** In order. */
        private final List<Moment> moments = new ArrayList<>();

        /** How far both topics have come. */
        long passed() {
            return Math.min(newestExposure, newestMeasurement);
        }

        /** Whether that is news. */
        boolean add(Moment moment, String experiment, String variation) {
            for (Moment known : moments) {
                if (variation.equals(known.variations.get(experiment))) {
                    if (known.compareTo(moment) <= 0) {
                        return false;
                    }
                    known.variations.remove(experiment);
                    break;
                }
            }
            if (moment.variations.isEmpty()) {
                int place = 0;
                while (place < moments.size() && moments.get(place).compareTo(moment) <= 0) {
                    place++;
                }
                moments.add(place, moment);
            }
            moment.variations.put(experiment, variation);
            return true;
        }

        Map<String, First> firsts() {
            Map<String, First> firsts = new LinkedHashMap<>();
            for (Moment moment : moments) {
                moment.variations.forEach((experiment, variation) -> {
                    First known = firsts.get(experiment);
                    if (known == null) {
                        firsts.put(experiment, new First(experiment, variation, moment, NEVER));
                    } else if (known.otherAt == NEVER) {
                        firsts.put(experiment, new First(experiment, known.variation, known.moment, moment.at));
                    }
                });
            }
            return firsts;
        }

        static Met read(Bytes from) {
            Met met = new Met();
            met.newestExposure = from.fixed();
            met.newestMeasurement = from.fixed();
            for (long count = from.number(); count > 0; count--) {
                met.busy.add((int) from.number());
            }
            while (from.hasMore()) {
                Moment moment = new Moment(from.fixed(), from.text(), from.text());
                for (long count = from.number(); count > 0; count--) {
                    moment.variations.put(from.text(), from.text());
                }
                met.moments.add(moment);
            }
            return met;
        }

        void write(Held held) throws Exception {
            Bytes to = new Bytes().fixed(newestExposure).fixed(newestMeasurement).number(busy.size());
            busy.forEach(to::number);
            for (Moment moment : moments) {
                if (!moment.variations.isEmpty()) {
                    to.fixed(moment.at).text(moment.id).text(moment.segment).number(moment.variations.size());
                    moment.variations.forEach((experiment, variation) -> to.text(experiment).text(variation));
                }
            }
            held.met(to.bytes());
        }
    }
}
