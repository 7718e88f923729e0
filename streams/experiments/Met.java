package headrace.experiments;

import headrace.experiments.Sums.Arm;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/** What a unit has met: of each variation of each phase the earliest exposure. */
final class Met {
    static final long NOTHING_YET = Long.MIN_VALUE / 2;

    long newestExposure = NOTHING_YET;
    long newestMeasurement = NOTHING_YET;
    private final TreeSet<Integer> busy = new TreeSet<>();
    /** In order. */
    private final List<Moment> moments = new ArrayList<>();
    /** As it was read; null once more than the newest is another. */
    private byte[] bytes;

    /** How far both topics have come. */
    long passed() {
        return Math.min(newestExposure, newestMeasurement);
    }

    /** Whether a day has more measurements than a person has. */
    boolean isBusy(int day) {
        return busy.contains(day);
    }

    /** Whether one of these days, both included, has. */
    boolean isBusy(int first, int last) {
        return !busy.isEmpty() && !busy.subSet(first, true, last, true).isEmpty();
    }

    void setBusy(int day) {
        busy.add(day);
        bytes = null;
    }

    void forget(int day) {
        if (busy.remove(day)) {
            bytes = null;
        }
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
        bytes = null;
        return true;
    }

    Map<String, First> firsts() {
        Map<String, First> firsts = new LinkedHashMap<>();
        for (Moment moment : moments) {
            moment.variations.forEach((experiment, variation) -> {
                First known = firsts.get(experiment);
                if (known == null) {
                    firsts.put(experiment, new First(experiment, variation, moment, Values.NEVER));
                } else if (known.otherAt == Values.NEVER) {
                    firsts.put(experiment, new First(experiment, known.variation, known.moment, moment.at));
                }
            });
        }
        return firsts;
    }

    /** {@code bytes} may be null: nothing yet. */
    static Met read(byte[] bytes, Texts texts) {
        Met met = new Met();
        if (bytes == null) {
            return met;
        }
        met.bytes = bytes;
        Bytes from = new Bytes(bytes);
        met.newestExposure = from.fixed();
        met.newestMeasurement = from.fixed();
        for (long count = from.number(); count > 0; count--) {
            met.busy.add((int) from.number());
        }
        while (from.hasMore()) {
            Moment moment = new Moment(from.fixed(), from.text(), from.text(texts));
            for (long count = from.number(); count > 0; count--) {
                moment.variations.put(from.text(texts), from.text(texts));
            }
            met.moments.add(moment);
        }
        return met;
    }

    /** Whether more than the newest is another since it was read. */
    boolean isChanged() {
        return bytes == null;
    }

    byte[] written() {
        if (bytes != null) {
            bytes = bytes.clone();
            new Bytes(bytes).fixed(newestExposure).fixed(newestMeasurement);
            return bytes;
        }
        Bytes to = new Bytes().fixed(newestExposure).fixed(newestMeasurement).number(busy.size());
        busy.forEach(to::number);
        for (Moment moment : moments) {
            if (!moment.variations.isEmpty()) {
                to.fixed(moment.at).text(moment.id).text(moment.segment).number(moment.variations.size());
                moment.variations.forEach((experiment, variation) -> to.text(experiment).text(variation));
            }
        }
        return to.bytes();
    }

    /** An exposure; {@code variations}: those by experiment.phase that no earlier one told. */
    record Moment(long at, String id, String segment, Map<String, String> variations) implements Comparable<Moment> {
        Moment(long at, String id, String segment) {
            this(at, id, segment, new LinkedHashMap<>());
        }

        @Override
        public int compareTo(Moment other) {
            return at != other.at ? Long.compare(at, other.at) : id.compareTo(other.id);
        }
    }

    /** The first exposure to a phase of an experiment, and when another of its variations was met. */
    record First(String experiment, String variation, Moment moment, long otherAt) {
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
}
