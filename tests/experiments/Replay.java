package headrace.experiments;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;

/**
 * UnitStatistics without Flink: what Unit adds to Sums, from lines to lines, for tests. A line is separated by tabs; names and values by '=' and ';'.
 *
 * <pre>
 * C argument                                     a new case; C
 * E unit at id segment variations                an exposure
 * M unit at source id version measured           a measurement
 * O                                              units are kept as they were before there were weeks
 * F                                              let out; R experiment variation segment day metric bucket n measured …
 * </pre>
 */
public final class Replay {
    private static final Map<String, Memory> UNITS = new HashMap<>();
    private static final Texts TEXTS = new Texts();
    private static Metrics metrics;
    private static Sums sums;

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line; (line = in.readLine()) != null; ) {
            String[] told = line.split("\t", -1);
            switch (told[0]) {
                case "C" -> {
                    metrics = new Metrics(told[1], java.util.List.of());
                    sums = new Sums(metrics);
                    UNITS.clear();
                    out.println("C");
                }
                case "E" -> unit(told[1]).expose(Long.parseLong(told[2]), told[3], told[4], pairs(told[5]));
                case "M" -> measure(unit(told[1]), told);
                case "O" -> {
                    for (Memory unit : UNITS.values()) {
                        unit.becomeOld();
                    }
                }
                default -> sums.letOut((arm, day, metric, bucket, sum) -> {
                    out.print("R\t" + arm.experiment() + "\t" + arm.variation() + "\t" + arm.segment() + "\t" + day + "\t"
                            + (metric == Sums.UNITS ? "" : metrics.names.get(metric)) + "\t" + bucket);
                    for (int i = 0; i < Sums.COUNT; i++) {
                        out.print("\t" + sum.get(i));
                    }
                    out.println();
                });
            }
        }
        out.flush();
    }

    private static Unit unit(String name) throws Exception {
        return new Unit(metrics, new Weeks(UNITS.computeIfAbsent(name, key -> new Memory())), sums, TEXTS);
    }

    private static void measure(Unit unit, String[] told) throws Exception {
        Map<String, String> measured = pairs(told[6]);
        measured.keySet().removeIf(name -> metrics.of(name) < 0 || Math.abs(Long.parseLong(measured.get(name))) > metrics.largest);
        int[] numbers = measured.keySet().stream().mapToInt(metrics::of).toArray();
        long[] values = measured.values().stream().mapToLong(Long::parseLong).toArray();
        long id = Identity.of(told[3].getBytes(StandardCharsets.UTF_8), told[4].getBytes(StandardCharsets.UTF_8));
        unit.measure(Long.parseLong(told[2]), id, Long.parseLong(told[5]), numbers, values);
    }

    private static Map<String, String> pairs(String told) {
        Map<String, String> pairs = new TreeMap<>();
        for (String pair : told.split(";")) {
            if (!pair.isEmpty()) {
                String[] both = pair.split("=");
                pairs.put(both[0], both[1]);
            }
        }
        return pairs;
    }

    static final class Memory implements Weeks.Store {
        private final Map<Integer, byte[]> weeks = new TreeMap<>();
        private Map<Integer, byte[]> days = Map.of();
        private byte[] unit;

        /** As it was kept before there were weeks. */
        void becomeOld() throws Exception {
            Weeks now = new Weeks(this);
            unit = now.met();
            days = now.days();
            weeks.clear();
        }

        @Override
        public byte[] unit() {
            return unit;
        }

        @Override
        public void unit(byte[] bytes) {
            unit = bytes;
        }

        @Override
        public byte[] week(int week) {
            return weeks.get(week);
        }

        @Override
        public void week(int week, byte[] bytes) {
            weeks.put(week, bytes);
        }

        @Override
        public void forget(int week) {
            weeks.remove(week);
        }

        @Override
        public Map<Integer, byte[]> takeDays() {
            Map<Integer, byte[]> taken = days;
            days = Map.of();
            return taken;
        }
    }
}
