package headrace.experiments;

import headrace.experiments.Metrics.Kind;
import headrace.experiments.Sums.Cells;
import headrace.experiments.Sums.Change;
import java.util.List;

/**
 * What a unit's part in experiments that it was exposed to at one time differs by, between what was known of it and what is.
 *
 * <p>Days are gone through in order. Up to the first that differs both sides are one; from there on, what each comes to by the end of a day is told, and
 * what it came to before is taken back.
 */
final class Difference {
    static final int NO_DAY = Integer.MAX_VALUE;

    private final Metrics metrics;
    private final long exposedAt;
    private final int exposedOn;
    private final int ends;
    private final boolean[] touched;
    private final List<Cells> cells;
    private final Change change;

    /**
     * {@code ends}: the day on which the unit leaves, or NO_DAY; {@code touched}: metrics that may differ; {@code cells}: where its part belongs; {@code change}
     * is empty before and after.
     */
    Difference(Metrics metrics, long exposedAt, int ends, boolean[] touched, List<Cells> cells, Change change) {
        this.metrics = metrics;
        this.exposedAt = exposedAt;
        exposedOn = Unit.day(exposedAt);
        this.ends = ends;
        this.touched = touched;
        this.cells = cells;
        this.change = change;
    }

    /** Of a unit that was there, and is: {@code both} is known as before, {@code old} no more, {@code now} anew; each in order of days. */
    void between(List<Measurement> both, List<Measurement> old, List<Measurement> now) {
        between(new Days(both), new Days(old), new Days(now), true, true);
    }

    /** Of a unit that was not there. */
    void come(List<Measurement> now) {
        between(new Days(List.of()), new Days(List.of()), new Days(now), false, true);
    }

    /** Of a unit that is there no more. */
    void left(List<Measurement> old) {
        between(new Days(List.of()), new Days(old), new Days(List.of()), true, false);
    }

    private void between(Days both, Days old, Days now, boolean wasThere, boolean isThere) {
        Values was = new Values(metrics, exposedAt, touched);
        int from = Math.min(old.next(), now.next());
        while (both.next() < Math.min(from, ends)) {
            was.take(both.poll());
        }
        Values is = was.copy();
        for (int day; (day = Math.min(both.next(), Math.min(old.next(), now.next()))) < ends; ) {
            while (both.next() == day) {
                Measurement one = both.poll();
                was.take(one);
                is.take(one);
            }
            while (old.next() == day) {
                was.take(old.poll());
            }
            while (now.next() == day) {
                is.take(now.poll());
            }
            for (int i = 0; i < touched.length; i++) {
                if (touched[i] && (was.news(i) | is.news(i))) {
                    change.difference(i, was.told(i), is.told(i), -1);
                    was.tell(i);
                    is.tell(i);
                    change.difference(i, was.told(i), is.told(i), 1);
                }
            }
            change.addTo(cells, day);
        }
        for (int i = 0; i < touched.length; i++) {
            if (ends != NO_DAY) {
                change.difference(i, was.told(i), is.told(i), -1);
            } else if (touched[i] && metrics.get(i) != null && metrics.get(i).kind() == Kind.TIME_TO_EVENT) {
                time(i, was, wasThere, -1);
                time(i, is, isThere, 1);
            }
        }
        change.addTo(cells, ends != NO_DAY ? ends : exposedOn);
    }

    private void time(int number, Values of, boolean isThere, int sign) {
        if (!isThere) {
            return;
        }
        change.add(number, Sums.N, sign);
        if (of.isMeasured(number)) {
            change.add(number, Sums.MEASURED, sign);
        }
        if (of.firstMs(number) != Values.NEVER) {
            change.bucket(number, (int) (of.firstMs(number) / metrics.get(number).intervalMs()), sign, 0, 0);
        }
    }

    /** Measurements as they come by days; those before the day of the exposure come on it. */
    private final class Days {
        private final List<Measurement> measured;
        private int next;

        Days(List<Measurement> measured) {
            this.measured = measured;
        }

        int next() {
            return next == measured.size() ? NO_DAY : Math.max(exposedOn, measured.get(next).day());
        }

        Measurement poll() {
            return measured.get(next++);
        }
    }
}
