package headrace.experiments;

import headrace.experiments.Met.First;
import headrace.experiments.Met.Moment;
import headrace.experiments.Sums.Arm;
import headrace.experiments.Sums.Cells;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

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

    private final Metrics metrics;
    private final Weeks held;
    private final Sums sums;
    private final Met met;

    Unit(Metrics metrics, Weeks held, Sums sums, Texts texts) throws Exception {
        this.metrics = metrics;
        this.held = held;
        this.sums = sums;
        met = Met.read(held.met(), texts);
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
            held.met(met.written());
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
        List<Measurement> known = standing(lists(held.days()));
        part(left, known, -1);
        part(come, known, 1);
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
        if (!met.isBusy(day)) {
            measure(new Measurement(day, at, id, version, numbers, values));
        }
        if (passed || met.isChanged()) {
            held.met(met.written());
        }
    }

    private void measure(Measurement one) throws Exception {
        List<First> open = new ArrayList<>();
        for (First first : met.firsts().values()) {
            if (!isOver(first.moment().at())) {
                open.add(first);
            }
        }
        TreeMap<Integer, byte[]> days = open.isEmpty() ? new TreeMap<>() : held.days();
        byte[] bytes = open.isEmpty() ? held.day(one.day()) : days.get(one.day());
        List<Measurement> ofDay = Measurement.list(one.day(), bytes);
        int place = place(ofDay, one.id());
        if (place >= 0 && ofDay.get(place).version() >= one.version()) {
            return;
        }
        if (place < 0 && ofDay.size() >= metrics.mostADay) {
            part(open, standing(lists(days)), -1);
            met.setBusy(one.day());
            held.day(one.day(), Bytes.NOTHING);
            days.remove(one.day());
            part(open, standing(lists(days)), 1);
            return;
        }
        if (place < 0) {
            held.day(one.day(), one.appended(bytes));
        } else {
            List<Measurement> now = new ArrayList<>(ofDay);
            now.set(place, one);
            held.day(one.day(), Measurement.bytes(now));
        }
        if (!open.isEmpty()) {
            add(one, open, standing(lists(days)));
        }
    }

    /** What a measurement changes that is new, or takes the place of one among those that counted. */
    private void add(Measurement one, List<First> open, List<Measurement> known) {
        boolean[] touched = new boolean[metrics.size()];
        one.touch(touched);
        List<Measurement> old = List.of();
        int place = place(known, one.id());
        if (place >= 0) {
            Measurement other = known.remove(place);
            if (other.day() != one.day() && !one.isAfter(other)) {
                return;
            }
            other.touch(touched);
            old = List.of(other);
        }
        for (Group group : groups(open)) {
            difference(group, touched).between(known, old, List.of(one));
        }
    }

    private boolean isTooLate(long at, long newest) {
        if (at >= newest - metrics.latestMs) {
            return false;
        }
        sums.of(new Arm(".0", "", "")).addUnits(day(at), Sums.N, 1);
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
        for (int day : held.days().headMap(first).keySet()) {
            held.forget(day);
            met.forget(day);
        }
    }

    /** Whether nothing of its part can come any more. */
    private boolean isOver(long exposedAt) {
        return exposedAt + metrics.openMs() < met.passed();
    }

    /** Add what all that is known comes to for exposures, or with the sign -1 take it away. */
    private void part(Collection<First> firsts, List<Measurement> known, int sign) {
        for (First first : firsts) {
            Cells cells = sums.of(first.arm());
            int day = day(first.moment().at());
            if (isBusy(first.moment().at())) {
                cells.addUnits(day, Sums.Y, sign);
                continue;
            }
            cells.addUnits(day, Sums.N, sign);
            int ends = ends(first);
            if (ends != Difference.NO_DAY) {
                cells.addUnits(ends, Sums.N, -sign);
                cells.addUnits(ends, Sums.X, sign);
            }
        }
        boolean[] all = new boolean[metrics.size()];
        Arrays.fill(all, true);
        for (Group group : groups(firsts)) {
            if (sign > 0) {
                difference(group, all).come(known);
            } else {
                difference(group, all).left(known);
            }
        }
    }

    private Difference difference(Group group, boolean[] touched) {
        return new Difference(metrics, group.at, group.ends, touched, group.cells, sums.change());
    }

    /** By those that have the same part in all sums, and where it belongs. */
    private List<Group> groups(Collection<First> firsts) {
        List<Group> groups = new ArrayList<>();
        Group group = null;
        for (First first : firsts) {
            long at = first.moment().at();
            int ends = ends(first);
            if (isBusy(at)) {
                continue;
            }
            if (group == null || group.at != at || group.ends != ends) {
                group = new Group(at, ends, new ArrayList<>());
                groups.add(group);
            }
            group.cells.add(sums.of(first.arm()));
        }
        return groups;
    }

    private boolean isBusy(long exposedAt) {
        return met.isBusy(day(exposedAt - metrics.covariateMs), day(exposedAt + metrics.windowMs - 1));
    }

    /** The day on which the unit leaves, because it met another variation. */
    private int ends(First first) {
        return first.otherAt() < first.moment().at() + metrics.windowMs ? day(first.otherAt()) : Difference.NO_DAY;
    }

    private static List<Measurement> lists(TreeMap<Integer, byte[]> days) {
        List<Measurement> all = new ArrayList<>();
        days.forEach((day, bytes) -> all.addAll(Measurement.list(day, bytes)));
        return all;
    }

    /** Of each measurement the version that counts. */
    private static List<Measurement> standing(List<Measurement> all) {
        Measurement[] newest = new Measurement[Integer.highestOneBit(2 * all.size() + 1) * 2]; // a hash table: an id is a hash
        boolean superseded = false;
        for (Measurement one : all) {
            int at = at(newest, one.id());
            superseded |= newest[at] != null;
            if (newest[at] == null || one.isAfter(newest[at])) {
                newest[at] = one;
            }
        }
        if (superseded) {
            all.removeIf(one -> newest[at(newest, one.id())] != one);
        }
        return all;
    }

    private static int at(Measurement[] table, long id) {
        int at = (int) id & table.length - 1;
        while (table[at] != null && table[at].id() != id) {
            at = at + 1 & table.length - 1;
        }
        return at;
    }

    private static int place(List<Measurement> among, long id) {
        for (int i = 0; i < among.size(); i++) {
            if (among.get(i).id() == id) {
                return i;
            }
        }
        return -1;
    }

    static int day(long at) {
        return (int) Math.floorDiv(at, DAY_MS);
    }

    private static boolean hasPhase(String experiment) {
        int dot = experiment.lastIndexOf('.');
        int digits = experiment.length() - dot - 1;
        return dot > 0 && digits > 0 && digits < 10 && experiment.chars().skip(dot + 1).allMatch(c -> c >= '0' && c <= '9');
    }

    private record Group(long at, int ends, List<Cells> cells) {}
}
