package headrace.recommendations;

import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.function.Consumer;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.RowData;

/** Which rows an event that counts changes, and what it is to them: take of Engine in streams/recommendations/engine.py. */
final class Changes {
    static final char BETWEEN = '\u001f';
    private static final Text[] NO_TEXTS = {};

    /** A row that changes: its layout's place, its key, and what to give {@link #apply}. */
    interface Out {
        void change(int layout, String key, byte[] change) throws IOException;
    }

    private record Value(boolean hasNumber, long number, Text[] texts) {}

    private static final Value ONE = new Value(true, 1, NO_TEXTS);
    private static final Value NONE = new Value(false, 0, NO_TEXTS);

    private final Plan plan;

    /** Is told why something was left out. */
    private final Consumer<String> leftOut;

    private final DataOutputSerializer[] said;
    private final int[] selections;

    Changes(Plan plan, Consumer<String> leftOut) {
        this.plan = plan;
        this.leftOut = leftOut;
        said = new DataOutputSerializer[plan.layouts.size()];
        selections = new int[said.length];
        java.util.Arrays.setAll(said, layout -> new DataOutputSerializer(128));
    }

    void of(RowData event, long atMs, Out out) throws IOException {
        Plan.Topic topic = plan.topics.get(event.getString(0).toString());
        java.util.Arrays.fill(selections, 0);
        Value[] values = new Value[Plan.FIELDS + plan.kinds.length];
        for (Plan.Filter filter : topic.filters()) {
            if (!filter.metBy().test(event)) {
                continue;
            }
            for (Plan.Part part : filter.parts()) {
                Value value = part.column() == 0 ? ONE : values[part.column()];
                if (value == null) {
                    value = value(event, part.column());
                    values[part.column()] = value;
                }
                if (value.hasNumber || value.texts.length > 0) {
                    say(part, atMs, value);
                }
            }
        }
        for (int layout = 0; layout < said.length; layout++) {
            if (selections[layout] > 0) {
                byte[] change = said[layout].getCopyOfBuffer();
                for (String key : keys(event, topic.keys()[layout])) {
                    out.change(layout, key, change);
                }
            }
        }
    }

    private void say(Plan.Part part, long atMs, Value value) throws IOException {
        DataOutputSerializer to = said[part.layout()];
        if (selections[part.layout()]++ == 0) {
            to.clear();
            to.writeLong(atMs);
        }
        to.writeShort(part.selection());
        to.writeBoolean(value.hasNumber);
        if (value.hasNumber) {
            to.writeInt((int) value.number);
        }
        boolean areAsked = plan.layouts.get(part.layout()).uses().get(part.selection()).texts().length > 0;
        to.writeInt(areAsked ? value.texts.length : 0);
        for (Text text : areAsked ? value.texts : NO_TEXTS) {
            to.writeByte(text.bytes().length);
            to.write(text.bytes());
        }
    }

    /** Give a row what {@link #of} said of it. */
    static void apply(byte[] change, Plan.Layout layout, Row row) throws IOException {
        DataInputDeserializer in = new DataInputDeserializer(change);
        long atMs = in.readLong();
        while (in.available() > 0) {
            Plan.Uses uses = layout.uses().get(in.readShort());
            boolean hasNumber = in.readBoolean();
            long number = hasNumber ? in.readInt() : 0;
            Text[] texts = new Text[in.readInt()];
            for (int i = 0; i < texts.length; i++) {
                byte[] text = new byte[in.readUnsignedByte()];
                in.readFully(text);
                texts[i] = new Text(text);
            }
            row.take(uses, atMs, hasNumber, number, texts);
        }
        row.counted();
    }

    private Value value(RowData event, int column) {
        if (event.isNullAt(column)) {
            return NONE;
        }
        switch (plan.kind(column)) {
            case "whole" -> {
                long number = event.getLong(column);
                if (number > plan.mostNumber || number < -plan.mostNumber) {
                    leftOut.accept("out_of_bounds");
                    return NONE;
                }
                return new Value(true, number, new Text[] {new Text(Plan.utf8(Long.toString(number)))});
            }
            case "texts" -> {
                List<Text> fitting = new ArrayList<>();
                for (byte[] text : items(event.getArray(column))) {
                    fit(text, fitting);
                }
                return new Value(false, 0, fitting.toArray(NO_TEXTS));
            }
            default -> {
                List<Text> fitting = new ArrayList<>(1);
                fit(event.getString(column).toBytes(), fitting);
                return new Value(false, 0, fitting.toArray(NO_TEXTS));
            }
        }
    }

    private void fit(byte[] text, List<Text> fitting) {
        if (text.length > plan.mostTextBytes) {
            leftOut.accept("too_long");
        } else if (text.length > 0) {
            fitting.add(new Text(text));
        }
    }

    private static List<byte[]> items(ArrayData told) {
        LinkedHashSet<Text> items = new LinkedHashSet<>();
        for (int i = 0; i < told.size(); i++) {
            items.add(new Text(told.getString(i).toBytes()));
        }
        return items.stream().map(Text::bytes).toList();
    }

    private List<String> keys(RowData event, int[] columns) {
        List<List<String>> parts = new ArrayList<>();
        for (int column : columns) {
            List<String> some = new ArrayList<>();
            if (column > 0 && !event.isNullAt(column)) {
                if (plan.kind(column).equals("texts")) {
                    items(event.getArray(column)).forEach(item -> some.add(new String(item, java.nio.charset.StandardCharsets.UTF_8)));
                } else {
                    some.add(event.getString(column).toString());
                }
                some.removeIf(String::isEmpty);
            }
            if (some.isEmpty()) {
                leftOut.accept("no_key");
                return List.of();
            }
            parts.add(some);
        }
        List<String> keys = new ArrayList<>();
        int[] places = new int[parts.size()];
        for (int left = plan.mostKeys; left > 0; left--) {
            add(parts, places, keys);
            int last = places.length - 1;
            while (last >= 0 && ++places[last] == parts.get(last).size()) {
                places[last--] = 0;
            }
            if (last < 0) {
                break;
            }
        }
        return keys;
    }

    private void add(List<List<String>> parts, int[] places, List<String> keys) {
        StringBuilder key = new StringBuilder();
        for (int i = 0; i < places.length; i++) {
            String part = parts.get(i).get(places[i]);
            if (part.indexOf(BETWEEN) >= 0 || part.length() > plan.mostTextBytes || Plan.utf8(part).length > plan.mostTextBytes) {
                leftOut.accept("too_long");
                return;
            }
            key.append(i > 0 ? String.valueOf(BETWEEN) : "").append(part);
        }
        keys.add(key.toString());
    }
}
