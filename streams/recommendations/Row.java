package headrace.recommendations;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * What is kept of one key: streams/recommendations/tiles.py says what, and why its bytes are a function of the set of events. The fixed part is kept as it is packed;
 * texts are read when something touches them or leaves their windows.
 */
final class Row {
    private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
    private static final int CLOCK = 0;
    private static final int TAKEN = 8;
    private static final int LASTS = 16;
    private static final byte[] NOTHING = {};

    private final Plan plan;
    private final Plan.Layout layout;
    private final byte[] fixed;
    private byte[] packed;
    private long packedAt;
    private boolean isNoted;

    /** By part: of distinct and last, when each text was there last; null until they are read. */
    private List<Map<Text, Long>> newest;

    /** By part: of top_k, how often each text was there, by tile. */
    private List<TreeMap<Long, Map<Text, Integer>>> often;

    /** A row that has taken nothing. */
    Row(Plan plan, Plan.Layout layout) {
        this.plan = plan;
        this.layout = layout;
        fixed = new byte[layout.size()];
        LONG.set(fixed, CLOCK, Plan.NEVER);
        for (int last = 0; last < layout.lasts(); last++) {
            LONG.set(fixed, LASTS + 16 * last, Plan.NEVER);
        }
        packed = NOTHING;
        if (!layout.texts().isEmpty()) {
            read(NOTHING);
            isNoted = true;
        }
    }

    /** A row as {@link #bytes} gave it. */
    Row(Plan plan, Plan.Layout layout, byte[] bytes) {
        this.plan = plan;
        this.layout = layout;
        fixed = java.util.Arrays.copyOf(bytes, layout.size());
        packed = java.util.Arrays.copyOfRange(bytes, layout.size(), bytes.length);
        packedAt = clock();
    }

    Plan.Layout layout() {
        return layout;
    }

    long clock() {
        return (long) LONG.get(fixed, CLOCK);
    }

    long taken() {
        return (long) LONG.get(fixed, TAKEN);
    }

    /** Whoever gives a row an event counts it once, whatever many selections it is in. */
    void counted() {
        LONG.set(fixed, TAKEN, taken() + 1);
    }

    /** One event of a selection; without a number where {@code hasNumber} is false. */
    void take(Plan.Uses uses, long atMs, boolean hasNumber, long number, Text[] texts) {
        advance(atMs);
        for (Plan.Column column : uses.columns()) {
            add(column, atMs, hasNumber ? number : 0);
        }
        if (hasNumber) {
            for (int last : uses.lasts()) {
                int at = LASTS + 16 * last;
                long newestAt = (long) LONG.get(fixed, at);
                if (atMs > newestAt || atMs == newestAt && number > (long) LONG.get(fixed, at + 8)) {
                    LONG.set(fixed, at, atMs);
                    LONG.set(fixed, at + 8, number);
                }
            }
        }
        if (uses.texts().length > 0 && texts.length > 0) {
            readOnce();
            isNoted = true;
            for (int part : uses.texts()) {
                note(part, atMs, texts);
            }
        }
    }

    private void add(Plan.Column column, long atMs, long number) {
        long tile = Math.floorDiv(atMs, column.hopMs());
        if (tile <= Math.floorDiv(clock(), column.hopMs()) - column.tiles()) {
            return; // no window reaches so far back
        }
        int slot = (int) Math.floorMod(tile, (long) column.tiles());
        if (column.isCount()) {
            int at = column.offset() + Integer.BYTES * slot;
            INT.set(fixed, at, (int) INT.get(fixed, at) + 1);
            return;
        }
        int at = column.offset() + Long.BYTES * slot;
        long kept = (long) LONG.get(fixed, at);
        if (column.isDecay()) {
            long more = Math.max(number, 0) * weight(column, atMs, tile);
            LONG.set(fixed, at, kept > Long.MAX_VALUE - more ? Long.MAX_VALUE : kept + more);
        } else {
            LONG.set(fixed, at, kept + number);
        }
    }

    private long weight(Plan.Column column, long atMs, long tile) {
        long step = Math.floorDiv(atMs * plan.steps, column.halfLifeMs());
        long begins = Math.floorDiv(Math.floorDiv(tile * column.hopMs() * plan.steps, column.halfLifeMs()), plan.steps);
        return plan.weights[(int) Math.floorMod(step, plan.steps)] << Math.floorDiv(step, plan.steps) - begins;
    }

    private void note(int place, long atMs, Text[] texts) {
        Plan.Texts part = layout.texts().get(place);
        Map<Text, Long> when = newest.get(place);
        for (Text text : texts) {
            switch (part.kind()) {
                case "last" -> {
                    Map.Entry<Text, Long> was = when.isEmpty() ? null : when.entrySet().iterator().next();
                    if (was == null || atMs > was.getValue() || atMs == was.getValue() && text.compareTo(was.getKey()) > 0) {
                        when.clear();
                        when.put(text, atMs);
                    }
                }
                case "distinct" -> {
                    when.merge(text, atMs, Math::max);
                    if (when.size() > 2 * plan.mostDistinct) {
                        cutDistinct(part, when);
                    }
                }
                default -> {
                    Map<Text, Integer> tile = often.get(place).computeIfAbsent(Math.floorDiv(atMs, part.hopMs()), key -> new HashMap<>());
                    tile.merge(text, 1, Integer::sum);
                    if (tile.size() > 2 * plan.mostInTile) {
                        cutTile(tile);
                    }
                }
            }
        }
    }

    private void advance(long atMs) {
        long clock = clock();
        if (atMs <= clock) {
            return;
        }
        for (Plan.Ring ring : layout.rings()) {
            long old = Math.floorDiv(clock, ring.hopMs());
            long now = Math.floorDiv(atMs, ring.hopMs());
            if (old < now) {
                for (Plan.Column column : ring.columns()) {
                    int bytes = column.isCount() ? Integer.BYTES : Long.BYTES;
                    for (long tile = Math.max(old, now - column.tiles()) + 1; tile <= now; tile++) {
                        int at = column.offset() + bytes * (int) Math.floorMod(tile, (long) column.tiles());
                        java.util.Arrays.fill(fixed, at, at + bytes, (byte) 0);
                    }
                }
            }
        }
        LONG.set(fixed, CLOCK, atMs);
    }

    private void cutDistinct(Plan.Texts part, Map<Text, Long> when) {
        long begin = begin(part, clock());
        when.values().removeIf(at -> at < begin);
        if (when.size() > plan.mostDistinct + 1) {
            Comparator<Map.Entry<Text, Long>> byTime = Map.Entry.comparingByValue();
            List<Map.Entry<Text, Long>> entries = new ArrayList<>(when.entrySet());
            entries.sort(byTime.thenComparing(Map.Entry.comparingByKey()).reversed());
            for (Map.Entry<Text, Long> entry : new ArrayList<>(entries.subList(plan.mostDistinct + 1, entries.size()))) {
                when.remove(entry.getKey());
            }
        }
    }

    private void cutTile(Map<Text, Integer> tile) {
        if (tile.size() > plan.mostInTile + 1) {
            List<Text> texts = new ArrayList<>(tile.keySet());
            texts.sort(Comparator.comparingLong(Text::murmur3).thenComparing(Comparator.naturalOrder()));
            texts.subList(plan.mostInTile + 1, texts.size()).forEach(tile::remove);
        }
    }

    private static long begin(Plan.Texts part, long atMs) {
        return Math.floorDiv(atMs - part.lengthMs(), part.hopMs()) * part.hopMs();
    }

    /** The fixed part. */
    byte[] fixed() {
        return fixed.clone();
    }

    /** The texts, of those that a window reaches. */
    byte[] texts() {
        if (isNoted || hasLeft()) {
            readOnce();
            packed = packedTexts();
            packedAt = clock();
            isNoted = false;
        }
        return packed;
    }

    /** About what it takes in memory: of a text its packed bytes, and what a map of it takes. */
    int size() {
        return 200 + fixed.length + (newest == null ? 1 : 8) * packed.length;
    }

    /** Everything, for a state. */
    byte[] bytes() {
        byte[] texts = texts();
        byte[] all = java.util.Arrays.copyOf(fixed, fixed.length + texts.length);
        System.arraycopy(texts, 0, all, fixed.length, texts.length);
        return all;
    }

    /** Whether the clock has moved on so far since the texts were packed that some may have left. */
    private boolean hasLeft() {
        for (Plan.Texts part : layout.texts()) {
            if (!part.kind().equals("last") && Math.floorDiv(clock(), part.hopMs()) != Math.floorDiv(packedAt, part.hopMs())) {
                return true;
            }
        }
        return false;
    }

    private byte[] packedTexts() {
        ByteBuffer[] sections = new ByteBuffer[layout.texts().size()];
        int size = 0;
        for (int place = 0; place < sections.length; place++) {
            Plan.Texts part = layout.texts().get(place);
            sections[place] = part.kind().equals("top_k") ? top(part, often.get(place)) : times(part, newest.get(place));
            size += sections[place].position();
        }
        ByteBuffer all = ByteBuffer.allocate(size);
        for (ByteBuffer section : sections) {
            all.put(section.flip());
        }
        return all.array();
    }

    private ByteBuffer times(Plan.Texts part, Map<Text, Long> when) {
        if (part.kind().equals("distinct")) {
            cutDistinct(part, when);
        }
        TreeMap<Text, Long> sorted = new TreeMap<>(when);
        ByteBuffer out = section(sorted.keySet(), 0, Long.BYTES * sorted.size());
        sorted.values().forEach(out::putLong);
        return told(out, sorted.keySet());
    }

    private ByteBuffer top(Plan.Texts part, TreeMap<Long, Map<Text, Integer>> tiles) {
        tiles.headMap(Math.floorDiv(clock(), part.hopMs()) - part.tiles(), true).clear();
        TreeSet<Text> all = new TreeSet<>();
        int entries = 0;
        for (Map<Text, Integer> tile : tiles.values()) {
            cutTile(tile);
            all.addAll(tile.keySet());
            entries += tile.size();
        }
        Map<Text, Integer> places = new HashMap<>();
        all.forEach(text -> places.put(text, places.size()));
        ByteBuffer out = section(all, entries, entries * (Long.BYTES + Integer.BYTES + Short.BYTES));
        List<Map.Entry<Text, Integer>> sorted = new ArrayList<>(entries);
        tiles.forEach((tile, texts) -> {
            texts.forEach((text, n) -> out.putLong(tile));
            sorted.addAll(new TreeMap<>(texts).entrySet());
        });
        sorted.forEach(entry -> out.putInt(entry.getValue()));
        sorted.forEach(entry -> out.putShort(places.get(entry.getKey()).shortValue()));
        return told(out, all);
    }

    private static ByteBuffer section(Iterable<Text> texts, int entries, int numbers) {
        int count = 0;
        int size = 0;
        for (Text text : texts) {
            count++;
            size += Short.BYTES + text.bytes().length;
        }
        return ByteBuffer.allocate(2 * Integer.BYTES + numbers + size).order(ByteOrder.LITTLE_ENDIAN).putInt(count).putInt(entries);
    }

    private static ByteBuffer told(ByteBuffer out, Iterable<Text> texts) {
        texts.forEach(text -> out.putShort((short) text.bytes().length));
        texts.forEach(text -> out.put(text.bytes()));
        return out;
    }

    private void readOnce() {
        if (newest == null) {
            read(packed);
        }
    }

    private void read(byte[] bytes) {
        ByteBuffer in = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        newest = new ArrayList<>();
        often = new ArrayList<>();
        for (Plan.Texts part : layout.texts()) {
            Map<Text, Long> when = new HashMap<>();
            TreeMap<Long, Map<Text, Integer>> tiles = new TreeMap<>();
            newest.add(when);
            often.add(tiles);
            if (bytes.length == 0) {
                continue;
            }
            int texts = in.getInt();
            int entries = in.getInt();
            int begin = in.position();
            boolean isTop = part.kind().equals("top_k");
            in.position(begin + (isTop ? entries * (Long.BYTES + Integer.BYTES + Short.BYTES) : texts * Long.BYTES));
            int[] lengths = new int[texts];
            for (int i = 0; i < texts; i++) {
                lengths[i] = Short.toUnsignedInt(in.getShort());
            }
            Text[] told = new Text[texts];
            for (int i = 0; i < texts; i++) {
                byte[] text = new byte[lengths[i]];
                in.get(text);
                told[i] = new Text(text);
                if (!isTop) {
                    when.put(told[i], in.getLong(begin + Long.BYTES * i));
                }
            }
            for (int i = 0; i < entries; i++) {
                int often = in.getInt(begin + Long.BYTES * entries + Integer.BYTES * i);
                int place = Short.toUnsignedInt(in.getShort(begin + (Long.BYTES + Integer.BYTES) * entries + Short.BYTES * i));
                tiles.computeIfAbsent(in.getLong(begin + Long.BYTES * i), key -> new HashMap<>()).put(told[place], often);
            }
        }
    }
}
