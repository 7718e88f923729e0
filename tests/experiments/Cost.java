package headrace.experiments;

import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.IntStream;

/** What does a measurement cost? See cost.py. Arguments: metrics, experiments, of a member, members, rounds; prints µs, the first quarter not counted. */
public final class Cost {
    public static void main(String[] args) throws Exception {
        Metrics metrics = new Metrics(args[0], List.of());
        int experiments = Integer.parseInt(args[1]);
        double ofAMember = Double.parseDouble(args[2]);
        Replay.Memory[] members = new Replay.Memory[Integer.parseInt(args[3])];
        int rounds = Integer.parseInt(args[4]);
        Random random = new Random(7);
        Texts texts = new Texts();
        Sums sums = new Sums(metrics);
        long start = 20_700 * Unit.DAY_MS;
        for (int member = 0; member < members.length; member++) {
            members[member] = new Replay.Memory();
            int count = (int) (ofAMember + random.nextDouble());
            Map<String, String> met = new TreeMap<>();
            while (met.size() < count) {
                met.put("experiment_" + random.nextInt(experiments) + ".1", random.nextBoolean() ? "control" : "treatment");
            }
            if (count > 0) {
                String segment = "device_type\u001f" + List.of("tv", "phone", "web").get(member % 3) + "\u001f";
                new Unit(metrics, new Weeks(members[member]), sums, texts).expose(start + member, member + "-e", segment, met);
            }
        }
        ThreadMXBean thread = ManagementFactory.getThreadMXBean();
        int[] numbers = IntStream.range(0, metrics.size()).toArray();
        long[][] values = new long[members.length][numbers.length];
        Random ids = new Random(8);
        long spent = 0;
        long counted = 0;
        for (int round = 0; round < rounds; round++) {
            long at = start + Unit.DAY_MS + 13 * Unit.DAY_MS * round / rounds;
            for (long[] of : values) {
                Arrays.setAll(of, i -> (long) Math.exp(6 + random.nextGaussian()));
            }
            long before = thread.getCurrentThreadCpuTime();
            for (int member = 0; member < members.length; member++) {
                new Unit(metrics, new Weeks(members[member]), sums, texts)
                        .measure(at + member, ids.nextLong(), 1, numbers.clone(), values[member].clone());
            }
            if (round >= rounds / 4) {
                spent += thread.getCurrentThreadCpuTime() - before;
                counted += members.length;
            }
            sums.letOut((arm, day, metric, bucket, sum) -> {});
        }
        System.out.printf(Locale.ROOT, "%.2f%n", spent / 1e3 / counted);
    }
}
