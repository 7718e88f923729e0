package headrace.recommendations;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.data.RowData;

/** What the operators are told: which events change which rows, and where. Made by streams/recommendations/kept.py, which says what each part means. */
final class Plan {
    /** Columns of an event before its fields: topic, keyed_by, event_id, event_time, arrived_at. */
    static final int FIELDS = 5;

    static final long DAY_MS = 86_400_000;

    /** The clock of what has taken nothing. */
    static final long NEVER = -(1L << 50);

    /** A filter, and what is changed where an event meets it. */
    record Filter(Predicate<RowData> metBy, List<Part> parts) {}

    /** A selection: its layout, its place there, and the column of its field, 0 without one. */
    record Part(int layout, int selection, int column) {}

    /** {@code keys}: of each layout the columns that tell it, 0 where the topic does not. */
    record Topic(boolean capped, List<Filter> filters, int[][] keys) {}

    /** One integer a tile, from {@code offset} on. */
    record Column(boolean isCount, boolean isDecay, long hopMs, int tiles, long halfLifeMs, int offset) {}

    record Ring(long hopMs, List<Column> columns) {}

    record Texts(String kind, long hopMs, int tiles, long lengthMs) {}

    record Uses(Column[] columns, int[] lasts, int[] texts) {}

    /** The row of one key; {@code size}: bytes of its fixed part. */
    record Layout(String id, String group, int lasts, List<Column> columns, List<Ring> rings, List<Texts> texts, List<Uses> uses, int size) {}

    final long twiceMs;
    final int mostADay;
    final int mostKeys;
    final long mostNumber;
    final int mostTextBytes;
    final int mostDistinct;
    final int mostInTile;
    final long steps;
    /** 2^(step / steps), in whole numbers of scale. */
    final long[] weights;
    final String[] kinds;
    final Map<String, Topic> topics = new HashMap<>();
    final List<Layout> layouts = new ArrayList<>();
    final int generation;
    final boolean isSilent;

    Plan(String argument) {
        JsonNode told;
        try {
            told = new ObjectMapper().readTree(argument);
        } catch (java.io.IOException error) {
            throw new IllegalArgumentException("features: " + error.getMessage(), error);
        }
        JsonNode bounds = told.get("bounds");
        twiceMs = bounds.get("TWICE_MS").asLong();
        mostADay = bounds.get("MOST_A_DAY").asInt();
        mostKeys = bounds.get("MOST_KEYS").asInt();
        mostNumber = bounds.get("MOST_NUMBER").asLong();
        mostTextBytes = bounds.get("MOST_TEXT_BYTES").asInt();
        mostDistinct = bounds.get("MOST_DISTINCT").asInt();
        mostInTile = bounds.get("MOST_IN_TILE").asInt();
        steps = bounds.get("STEPS").asLong();
        weights = new long[(int) steps];
        for (int step = 0; step < weights.length; step++) {
            weights[step] = Math.round(Math.pow(2, (double) step / steps) * bounds.get("SCALE").asDouble());
        }
        kinds = new String[told.get("fields").size()];
        for (int i = 0; i < kinds.length; i++) {
            kinds[i] = told.get("fields").get(i).asText();
        }
        told.get("topics").properties().forEach(topic -> topics.put(topic.getKey(), topic(topic.getValue())));
        told.get("layouts").forEach(layout -> layouts.add(layout(layout)));
        generation = told.get("generation").asInt();
        isSilent = told.get("silent").asBoolean();
    }

    String kind(int column) {
        return kinds[column - FIELDS];
    }

    /** What rows of this plan are: a state of other layouts cannot be gone on with. */
    String layoutIds() {
        return String.join(" ", layouts.stream().map(Layout::id).toList());
    }

    private Topic topic(JsonNode told) {
        List<Filter> filters = new ArrayList<>();
        for (JsonNode filter : told.get("filters")) {
            Predicate<RowData> metBy = event -> true;
            for (JsonNode ask : filter.get("asks")) {
                metBy = metBy.and(test(FIELDS + ask.get(0).asInt(), ask.get(1)));
            }
            List<Part> parts = new ArrayList<>();
            for (JsonNode part : filter.get("parts")) {
                parts.add(new Part(part.get(0).asInt(), part.get(1).asInt(), part.get(2).asInt() < 0 ? 0 : FIELDS + part.get(2).asInt()));
            }
            filters.add(new Filter(metBy, parts));
        }
        int[][] keys = new int[told.get("keys").size()][];
        for (int i = 0; i < keys.length; i++) {
            keys[i] = ints(told.get("keys").get(i));
            for (int j = 0; j < keys[i].length; j++) {
                keys[i][j] = keys[i][j] < 0 ? 0 : FIELDS + keys[i][j];
            }
        }
        return new Topic(told.get("capped").asBoolean(), filters, keys);
    }

    private Predicate<RowData> test(int column, JsonNode what) {
        if (what.isObject()) {
            if (!what.has("at_least") && !what.has("below")) {
                return kind(column).equals("there") ? event -> event.getBoolean(column) : event -> !event.isNullAt(column);
            }
            long least = what.has("at_least") ? what.get("at_least").asLong() : Long.MIN_VALUE;
            boolean isBounded = what.has("below");
            long below = isBounded ? what.get("below").asLong() : 0;
            return event -> !event.isNullAt(column) && event.getLong(column) >= least && (!isBounded || event.getLong(column) < below);
        }
        Set<Object> among = new HashSet<>();
        for (JsonNode one : what.isArray() ? what : List.of(what)) {
            among.add(one.isBoolean() ? (Object) one.asBoolean() : one.isNumber() ? (Object) one.asLong() : one.asText());
        }
        return switch (kind(column)) {
            case "whole" -> event -> !event.isNullAt(column) && among.contains(event.getLong(column));
            case "truth" -> event -> !event.isNullAt(column) && among.contains(event.getBoolean(column));
            default -> event -> !event.isNullAt(column) && among.contains(event.getString(column).toString());
        };
    }

    private static Layout layout(JsonNode told) {
        List<Column> columns = new ArrayList<>();
        List<Ring> rings = new ArrayList<>();
        int lasts = told.get("lasts").asInt();
        int at = 16 + 16 * lasts;
        for (JsonNode column : told.get("columns")) {
            boolean isCount = column.get(0).asText().equals("count");
            int tiles = column.get(2).asInt();
            long hopMs = column.get(1).asLong();
            Column made = new Column(isCount, column.get(0).asText().equals("decay"), hopMs, tiles, column.get(3).asLong(), at);
            columns.add(made);
            at += tiles * (isCount ? Integer.BYTES : Long.BYTES);
            rings.stream().filter(ring -> ring.hopMs == hopMs).findFirst().orElseGet(() -> {
                rings.add(new Ring(hopMs, new ArrayList<>()));
                return rings.get(rings.size() - 1);
            }).columns.add(made);
        }
        List<Texts> texts = new ArrayList<>();
        told.get("texts").forEach(part ->
                texts.add(new Texts(part.get(0).asText(), part.get(1).asLong(), part.get(2).asInt(), part.get(3).asLong())));
        List<Uses> uses = new ArrayList<>();
        for (JsonNode one : told.get("uses")) {
            int[] places = ints(one.get("columns"));
            Column[] used = new Column[places.length];
            for (int i = 0; i < places.length; i++) {
                used[i] = columns.get(places[i]);
            }
            uses.add(new Uses(used, ints(one.get("lasts")), ints(one.get("texts"))));
        }
        return new Layout(told.get("id").asText(), told.get("group").asText(), lasts, columns, rings, texts, uses, (at + 7) / 8 * 8);
    }

    private static int[] ints(JsonNode told) {
        int[] ints = new int[told.size()];
        for (int i = 0; i < ints.length; i++) {
            ints[i] = told.get(i).asInt();
        }
        return ints;
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
