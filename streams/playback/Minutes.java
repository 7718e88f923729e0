package headrace.playback;

import static org.apache.flink.table.annotation.ArgumentTrait.REQUIRE_ON_TIME;
import static org.apache.flink.table.annotation.ArgumentTrait.SET_SEMANTIC_TABLE;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.annotation.ArgumentHint;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.annotation.StateHint;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;
import org.apache.flink.table.functions.ProcessTableFunction;

/**
 * What does each session add to each minute? A process table function (FLIP-440) over reports, by session.
 *
 * <p>Whatever is counted of a session is a function of the set of its reports and of how far time has come. At the end of a minute, once the watermark has
 * passed it, that function is evaluated twice: over the reports that were known a minute ago, and over those known now. What comes out is the difference,
 * whichever minutes it belongs to. So the sums of all rows of a minute are right however late, disordered or often reports came, at any reading speed.
 *
 * <p>Reports arrive into {@link #PENDING}, at the end of their minute they join {@link #KNOWN} in order, and those older than {@link #KEPT_MS} are folded into
 * the {@link Playback} that precedes them. The rules are those of streams/playback/qoe.py, with one difference: what is counted must not depend on later
 * reports, or minutes could never be left alone.
 *
 * <p>It is in Java, and the long part of its state is bytes in a view, for the reasons that Timelines.java gives.
 */
@FunctionHint(
        output = @DataTypeHint(
                value = "ROW<counted_minute TIMESTAMP(3) NOT NULL, isp_asn INT, cid STRING NOT NULL, device_type STRING NOT NULL, player STRING NOT NULL, "
                        + "region STRING NOT NULL, oca_id STRING NOT NULL, sessions BIGINT NOT NULL, attempts BIGINT NOT NULL, starts BIGINT NOT NULL, "
                        + "failed_starts BIGINT NOT NULL, exits_before_start BIGINT NOT NULL, in_play_failures BIGINT NOT NULL, "
                        + "playing_ms BIGINT NOT NULL, rebuffer_count BIGINT NOT NULL, rebuffer_ms BIGINT NOT NULL, "
                        + "known_bitrate_ms BIGINT NOT NULL, played_bits BIGINT NOT NULL, requests BIGINT NOT NULL, "
                        + "failed_requests BIGINT NOT NULL, received_bytes BIGINT NOT NULL, "
                        + "startup_ms MAP<STRING NOT NULL, BIGINT NOT NULL> NOT NULL, ttfb_ms MAP<STRING NOT NULL, BIGINT NOT NULL> NOT NULL, "
                        + "throughput_kbps MAP<STRING NOT NULL, BIGINT NOT NULL> NOT NULL>",
                bridgedTo = RowData.class))
public class Minutes extends ProcessTableFunction<RowData> {

    private static final long serialVersionUID = 1;

    private static final long MINUTE_MS = 60_000;

    /** Without a report for longer than this nothing is known of a session, as in streams/playback/qoe.py. */
    private static final long SILENCE_MS = 60_000;

    /** How long a session's reports are held: three minutes for those that may still come (the job's SQL), a minute for clocks, one for what is in flight. */
    private static final long KEPT_MS = 5 * MINUTE_MS;

    /** Reports further apart than this are of two sessions: so it makes no difference whether the first has been let go when the second begins. */
    private static final long APART_MS = 5 * MINUTE_MS;

    /** What the session's dimensions are joined by in {@code about}; the ISP comes first, because it is the one that must be a number. */
    private static final String BETWEEN_FIELDS = "\u001f";

    private static final int FIELDS = 5;

    /** Significant bits of a value in a histogram: what is in a bucket is within 1/64 of its middle. */
    private static final int BUCKET_BITS = 6;

    // The sums, in the order of the output.
    private static final int SESSIONS = 0;
    private static final int ATTEMPTS = 1;
    private static final int STARTS = 2;
    private static final int FAILED_STARTS = 3;
    private static final int EXITS_BEFORE_START = 4;
    private static final int IN_PLAY_FAILURES = 5;
    private static final int PLAYING_MS = 6;
    private static final int REBUFFER_COUNT = 7;
    private static final int REBUFFER_MS = 8;
    private static final int KNOWN_BITRATE_MS = 9;
    private static final int PLAYED_BITS = 10;
    private static final int REQUESTS = 11;
    private static final int FAILED_REQUESTS = 12;
    private static final int RECEIVED_BYTES = 13;
    private static final int SUMS = 14;

    // The histograms, likewise.
    private static final int STARTUP_MS = 0;
    private static final int TTFB_MS = 1;
    private static final int THROUGHPUT_KBPS = 2;

    // Keys of the view.
    private static final int KNOWN = 0;
    private static final int PENDING = 1;
    private static final int NAMES = 2;

    private static final int ABSENT = -1;
    private static final byte[] NOTHING = {};

    /** What is known of a session beside its reports. Times in ms since 1970. */
    public static class Session {
        public int knownBytes;
        public int pendingBytes;
        /** The highest number so far: a report beyond it is no duplicate. */
        public int mostNumber = Integer.MIN_VALUE;
        public long lastReportAt = Long.MIN_VALUE;
        /** The end of the last minute that was let out. */
        public long letOutTo = Long.MIN_VALUE;
        /** When its next timer fires. Those it had before mean nothing. */
        public long wokenAt = Long.MAX_VALUE;
    }

    /** Take one report. */
    public void eval(
            Context context,
            @StateHint(ttl = "0 s") Session session,
            @StateHint(ttl = "0 s") MapView<Integer, byte[]> held,
            @ArgumentHint(
                            value = {SET_SEMANTIC_TABLE, REQUIRE_ON_TIME},
                            type = @DataTypeHint(
                                    value = "ROW<sid STRING, event_time TIMESTAMP(3), sn INT, target STRING, e STRING, sta STRING, ot STRING, rc INT, "
                                            + "br_kbps INT, msd_ms INT, oca_id STRING, about STRING, ttfb_ms INT, ttlb_ms INT, received BIGINT>",
                                    bridgedTo = RowData.class))
                    RowData told)
            throws Exception {
        Report report = Report.of(told);
        if (session.letOutTo != Long.MIN_VALUE && report.at < session.letOutTo - KEPT_MS) {
            return;
        }
        byte[] names = held.get(NAMES);
        byte[] more = report.name(told, names == null ? NOTHING : names);
        if (more != names) {
            held.put(NAMES, more);
        }
        if (report.number <= session.mostNumber && isHeld(session, held, report)) {
            return;
        }
        byte[] pending = held.get(PENDING);
        int needed = session.pendingBytes + Report.WHOLE;
        if (pending == null || needed > pending.length) {
            pending = Arrays.copyOf(pending == null ? NOTHING : pending, needed * 2);
        }
        report.write(ByteBuffer.wrap(pending, session.pendingBytes, Report.WHOLE), true);
        held.put(PENDING, pending);
        session.pendingBytes = needed;
        session.mostNumber = Math.max(session.mostNumber, report.number);
        session.lastReportAt = Math.max(session.lastReportAt, report.at);

        TimeContext<Long> time = context.timeContext(Long.class);
        Long watermark = time.currentWatermark();
        wake(time, session, endOfMinute(watermark == null ? report.at : Math.max(report.at, watermark)));
    }

    /** Let out what the session adds to the minute that has ended, and to those before it. */
    public void onTimer(OnTimerContext context, Session session, MapView<Integer, byte[]> held) throws Exception {
        TimeContext<Long> time = context.timeContext(Long.class);
        if (time.time() != session.wokenAt) {
            if (session.knownBytes == 0 && session.pendingBytes == 0) {
                context.clearAllState(); // it was let go; Flink would keep the empty session that it made for this call
            }
            return;
        }
        long now = time.time() + 1;
        session.wokenAt = Long.MAX_VALUE;
        Names names = new Names(held.get(NAMES));
        Added added = new Added(names);
        ByteBuffer bytes = ByteBuffer.wrap(session.knownBytes == 0 ? NOTHING : held.get(KNOWN));
        Playback before = session.knownBytes == 0 ? new Playback() : Playback.read(bytes);
        List<Report> known = Report.list(bytes, session.knownBytes, false);
        added.take(-1, before.copy(), known, session.letOutTo);

        List<Report> all = new ArrayList<>(known);
        List<Report> later = new ArrayList<>();
        for (Report report : Report.list(ByteBuffer.wrap(held.get(PENDING)), session.pendingBytes, true)) {
            (report.at < now ? all : later).add(report);
            if (report.at < now && report.is(Report.REQUEST)) {
                added.request(report);
            }
        }
        all.sort(Report.IN_ORDER);
        added.take(1, before.copy(), all, now);
        added.rows().forEach(this::collect);

        if (later.isEmpty() && now >= session.lastReportAt + APART_MS + KEPT_MS) {
            context.clearAllState();
            return;
        }
        int old = 0;
        while (old < all.size() && all.get(old).at < now - KEPT_MS) {
            before.advance(all.get(old++), names, Added.NOWHERE);
        }
        session.knownBytes = keep(held, KNOWN, before, all.subList(old, all.size()), false);
        session.pendingBytes = keep(held, PENDING, null, later, true);
        held.put(NAMES, names.bytes());
        session.letOutTo = now;
        if (!later.isEmpty() || now <= session.lastReportAt + SILENCE_MS) {
            wake(time, session, now + MINUTE_MS);
        } else {
            wake(time, session, endOfMinute(session.lastReportAt + (old < all.size() ? 0 : APART_MS) + KEPT_MS));
        }
    }

    private static int keep(MapView<Integer, byte[]> held, int key, Playback before, List<Report> reports, boolean whole) throws Exception {
        ByteBuffer bytes = ByteBuffer.allocate((before == null ? 0 : Playback.BYTES) + reports.size() * (whole ? Report.WHOLE : Report.SHORT));
        if (before != null) {
            before.write(bytes);
        }
        for (Report report : reports) {
            report.write(bytes, whole);
        }
        held.put(key, bytes.array());
        return bytes.capacity();
    }

    private static boolean isHeld(Session session, MapView<Integer, byte[]> held, Report report) throws Exception {
        return report.isAmong(held.get(PENDING), 0, session.pendingBytes, Report.WHOLE)
                || session.knownBytes > 0 && report.isAmong(held.get(KNOWN), Playback.BYTES, session.knownBytes, Report.SHORT);
    }

    private static long endOfMinute(long at) {
        return minute(at) + MINUTE_MS;
    }

    private static long minute(long at) {
        return Math.floorDiv(at, MINUTE_MS) * MINUTE_MS;
    }

    /** At the last millisecond before {@code end}: what comes out then belongs to the window that ends with the minute. */
    private static void wake(TimeContext<Long> time, Session session, long end) {
        if (end - 1 < session.wokenAt) {
            session.wokenAt = end - 1;
            time.registerOnTime(end - 1);
        }
    }

    /** What is needed of one report. What only a request has is held until it has been counted. */
    private static class Report {
        static final int SHORT = Long.BYTES + 3 * Integer.BYTES + 5;
        static final int WHOLE = SHORT + 2 * Integer.BYTES + Long.BYTES;
        static final Comparator<Report> IN_ORDER =
                Comparator.<Report>comparingLong(r -> r.at).thenComparingInt(r -> r.number).thenComparingInt(r -> r.target);

        static final int REQUEST = 1;
        static final int SUCCEEDED = 2;
        static final int VIDEO = 4;
        static final int ERROR = 8;
        static final int FETCHED_VIDEO = REQUEST | SUCCEEDED | VIDEO;

        private static final StringData RR = StringData.fromString("rr");
        private static final StringData PS = StringData.fromString("ps");
        private static final StringData E = StringData.fromString("e");
        private static final StringData V = StringData.fromString("v");
        private static final StringData AV = StringData.fromString("av");

        private static final char UNKNOWN = '?';
        private static final int NUMBER_AT = Long.BYTES;
        private static final int TARGET_AT = Long.BYTES + Integer.BYTES;

        long at;
        int number;
        byte target;
        byte kind;
        /** The play state from now on, a letter; 0 where it stays as it is. */
        byte state;
        byte oca;
        byte about;
        int kbps;
        int startupMs;
        int ttfbMs;
        int ttlbMs;
        long received;

        static Report of(RowData told) {
            Report report = new Report();
            report.at = told.getTimestamp(1, 3).getMillisecond();
            report.number = told.getInt(2);
            StringData e = told.getString(4);
            StringData ot = told.isNullAt(6) ? null : told.getString(6);
            int status = integer(told, 7);
            report.kbps = integer(told, 8);
            report.startupMs = integer(told, 9);
            report.ttfbMs = integer(told, 12);
            report.ttlbMs = integer(told, 13);
            report.received = told.isNullAt(14) ? 0 : told.getLong(14);
            boolean video = V.equals(ot) || AV.equals(ot) || ot == null && report.kbps != ABSENT;
            boolean succeeded = status == ABSENT || status >= 200 && status < 300;
            report.kind = (byte) ((RR.equals(e) ? REQUEST : 0) | (succeeded ? SUCCEEDED : 0) | (video ? VIDEO : 0) | (E.equals(e) ? ERROR : 0));
            if (PS.equals(e) && !told.isNullAt(5)) {
                String state = told.getString(5).toString();
                report.state = (byte) (state.isEmpty() ? 0 : state.length() == 1 ? state.charAt(0) : UNKNOWN);
            }
            return report;
        }

        private static int integer(RowData told, int place) {
            return told.isNullAt(place) ? ABSENT : told.getInt(place);
        }

        /** Find the places of this report's texts among a session's names; returns the names, with what was new. */
        byte[] name(RowData told, byte[] names) {
            byte[] targetText = ((BinaryStringData) told.getString(3)).toBytes();
            byte[] aboutText = ((BinaryStringData) told.getString(11)).toBytes();
            byte[] ocaText = told.isNullAt(10) ? NOTHING : ((BinaryStringData) told.getString(10)).toBytes();
            byte[] more = Names.with(Names.with(names, aboutText), targetText);
            if (ocaText.length > 0) {
                more = Names.with(more, ocaText);
                oca = Names.place(more, ocaText);
            }
            target = Names.place(more, targetText);
            about = Names.place(more, aboutText);
            return more;
        }

        boolean is(int what) {
            return (kind & what) == what;
        }

        /** Whether it has come before: of one target, a number comes once. */
        boolean isAmong(byte[] reports, int from, int to, int each) {
            ByteBuffer bytes = ByteBuffer.wrap(reports);
            for (int i = from; i < to; i += each) {
                if (bytes.getInt(i + NUMBER_AT) == number && reports[i + TARGET_AT] == target) {
                    return true;
                }
            }
            return false;
        }

        void write(ByteBuffer to, boolean whole) {
            to.putLong(at).putInt(number).put(target).put(kind).put(state).put(oca).put(about).putInt(kbps).putInt(startupMs);
            if (whole) {
                to.putInt(ttfbMs).putInt(ttlbMs).putLong(received);
            }
        }

        static List<Report> list(ByteBuffer from, int end, boolean whole) {
            List<Report> reports = new ArrayList<>();
            while (from.position() < end) {
                Report report = new Report();
                report.at = from.getLong();
                report.number = from.getInt();
                report.target = from.get();
                report.kind = from.get();
                report.state = from.get();
                report.oca = from.get();
                report.about = from.get();
                report.kbps = from.getInt();
                report.startupMs = from.getInt();
                if (whole) {
                    report.ttfbMs = from.getInt();
                    report.ttlbMs = from.getInt();
                    report.received = from.getLong();
                }
                reports.add(report);
            }
            return reports;
        }
    }

    /** How a session stands after some of its reports. What it adds to a minute is told to {@link Added} while it advances. */
    private static class Playback {
        static final int BYTES = 3 * Long.BYTES + 2 * Integer.BYTES + 3;

        private static final int HEARD_OF = 1;
        private static final int SAID_SOMETHING = 1 << 1;
        private static final int TOLD_BITRATE = 1 << 2;
        private static final int STARTING = 1 << 3;
        private static final int PLAYED = 1 << 4;
        private static final int SHOWN = 1 << 5;
        private static final int STARTUP_COUNTED = 1 << 6;
        private static final int SOUGHT = 1 << 7;
        private static final int STALLED = 1 << 8;
        private static final int FAILED = 1 << 9;
        private static final int CLOSED = 1 << 10;

        private int marks;
        private long lastAt;
        private long startingAt;
        private long viewedMinute = Long.MIN_VALUE;
        private int kbps = ABSENT;
        private byte state;
        private byte oca;
        private byte about;

        static Playback read(ByteBuffer from) {
            Playback playback = new Playback();
            playback.marks = from.getInt();
            playback.lastAt = from.getLong();
            playback.startingAt = from.getLong();
            playback.viewedMinute = from.getLong();
            playback.kbps = from.getInt();
            playback.state = from.get();
            playback.oca = from.get();
            playback.about = from.get();
            return playback;
        }

        void write(ByteBuffer to) {
            to.putInt(marks).putLong(lastAt).putLong(startingAt).putLong(viewedMinute).putInt(kbps).put(state).put(oca).put(about);
        }

        Playback copy() {
            ByteBuffer bytes = ByteBuffer.allocate(BYTES);
            write(bytes);
            return read(bytes.flip());
        }

        void advance(Report report, Names names, Added added) {
            long at = report.at;
            if (is(HEARD_OF) && at - lastAt > APART_MS) {
                rest(at, added);
                begin();
            }
            if (!is(CLOSED) && is(HEARD_OF) && at - lastAt <= SILENCE_MS) {
                pass(at, added);
            }
            lastAt = at;
            if (is(CLOSED)) {
                return;
            }
            about = names.filled(about, report.about);
            if (report.is(Report.FETCHED_VIDEO) && report.oca != 0) {
                oca = report.oca;
            }
            mark(HEARD_OF);
            if (!report.is(Report.REQUEST) && mark(SAID_SOMETHING)) {
                added.count(ATTEMPTS, at, about, oca);
            }
            takeBitrate(report);
            if (report.startupMs >= 0) {
                show(at, report.startupMs, added);
            }
            if (report.is(Report.ERROR)) {
                mark(FAILED);
            }
            if (report.state != 0) {
                change(report.state, at, added);
            }
        }

        private void begin() {
            marks = 0;
            kbps = ABSENT;
            state = oca = about = 0;
        }

        /** The reports are at an end, and time has come to {@code now}. */
        void rest(long now, Added added) {
            if (is(HEARD_OF) && !is(CLOSED)) {
                if (now - lastAt <= SILENCE_MS) {
                    pass(now, added);
                } else if (is(SAID_SOMETHING)) {
                    end(lastAt, added);
                }
            }
        }

        private void takeBitrate(Report report) {
            if (report.kbps != ABSENT) {
                if (!report.is(Report.REQUEST)) {
                    mark(TOLD_BITRATE);
                    kbps = report.kbps;
                } else if (!is(TOLD_BITRATE) && report.is(Report.FETCHED_VIDEO)) {
                    kbps = report.kbps;
                }
            }
        }

        private void change(byte to, long at, Added added) {
            state = to;
            switch (to) {
                case 's' -> {
                    if (mark(STARTING)) {
                        startingAt = at;
                    }
                }
                case 'p' -> {
                    if (mark(PLAYED)) {
                        show(at, is(STARTING) ? at - startingAt : ABSENT, added);
                    }
                    marks &= ~(SOUGHT | STALLED);
                }
                case 'k' -> {
                    mark(SOUGHT);
                    marks &= ~STALLED;
                }
                case 'r', 'w' -> {
                    if (is(PLAYED) && !is(SOUGHT) && mark(STALLED)) {
                        added.count(REBUFFER_COUNT, at, about, oca);
                    }
                }
                case 'e', 'f', 'q' -> {
                    mark(CLOSED);
                    if (to == 'f') {
                        mark(FAILED);
                    }
                    end(at, added);
                }
                default -> {}
            }
        }

        private void show(long at, long startupMs, Added added) {
            if (mark(SHOWN)) {
                added.count(STARTS, at, about, oca);
            }
            if (startupMs >= 0 && mark(STARTUP_COUNTED)) {
                added.histogram(STARTUP_MS, startupMs, at, about, oca);
            }
        }

        private void end(long at, Added added) {
            if (!is(SHOWN)) {
                added.count(is(FAILED) ? FAILED_STARTS : EXITS_BEFORE_START, at, about, oca);
            } else if (state == 'f') {
                added.count(IN_PLAY_FAILURES, at, about, oca);
            }
        }

        private void pass(long to, Added added) {
            boolean playing = state == 'p';
            if (!playing && !(is(STALLED) && (state == 'r' || state == 'w'))) {
                return;
            }
            for (long from = lastAt; from < to; from = Math.min(to, endOfMinute(from))) {
                long lasted = Math.min(to, endOfMinute(from)) - from;
                added.add(playing ? PLAYING_MS : REBUFFER_MS, lasted, from, about, oca);
                if (playing && kbps != ABSENT) {
                    added.add(KNOWN_BITRATE_MS, lasted, from, about, oca);
                    added.add(PLAYED_BITS, kbps * lasted, from, about, oca);
                }
                if (minute(from) > viewedMinute) {
                    viewedMinute = minute(from);
                    added.count(SESSIONS, from, about, oca);
                }
            }
        }

        private boolean is(int what) {
            return (marks & what) != 0;
        }

        /** Whether it was not marked before. */
        private boolean mark(int what) {
            boolean first = !is(what);
            marks |= what;
            return first;
        }
    }

    /** What comes to what is counted, by minute, dimensions and cache server. */
    private static class Added {
        /** Where the reports go that have been counted for good. */
        static final Added NOWHERE = new Added(null);

        private record Cell(long minute, byte about, byte oca) {}

        private static class Sums {
            final long[] sums = new long[SUMS];
            final List<Map<Integer, Long>> counts = List.of(new HashMap<>(), new HashMap<>(), new HashMap<>());

            boolean isNothing() {
                return Arrays.stream(sums).allMatch(sum -> sum == 0) && counts.stream().allMatch(Map::isEmpty);
            }
        }

        private final Map<Cell, Sums> cells = new HashMap<>();
        private final Names names;
        private int sign = 1;

        Added(Names names) {
            this.names = names;
        }

        /** Add, or with -1 take away, what a session comes to by {@code now} that stood like {@code playback} before these reports. */
        void take(int sign, Playback playback, List<Report> reports, long now) {
            this.sign = sign;
            for (Report report : reports) {
                playback.advance(report, names, this);
            }
            playback.rest(now, this);
        }

        void add(int sum, long value, long at, byte about, byte oca) {
            if (names != null) {
                cell(at, about, oca).sums[sum] += sign * value;
            }
        }

        void count(int sum, long at, byte about, byte oca) {
            add(sum, 1, at, about, oca);
        }

        void histogram(int histogram, long value, long at, byte about, byte oca) {
            if (names != null) {
                Map<Integer, Long> counts = cell(at, about, oca).counts.get(histogram);
                counts.merge(bucket(value), (long) sign, (a, b) -> a + b == 0 ? null : a + b);
            }
        }

        void request(Report report) {
            Sums to = cell(report.at, report.about, report.oca);
            to.sums[REQUESTS]++;
            to.sums[RECEIVED_BYTES] += report.received;
            if (!report.is(Report.SUCCEEDED)) {
                to.sums[FAILED_REQUESTS]++;
            } else if (report.ttfbMs >= 0) {
                to.counts.get(TTFB_MS).merge(bucket(report.ttfbMs), 1L, Long::sum);
            }
            if (report.is(Report.FETCHED_VIDEO) && report.ttlbMs > 0 && report.received > 0) {
                to.counts.get(THROUGHPUT_KBPS).merge(bucket(report.received * 8 / report.ttlbMs), 1L, Long::sum);
            }
        }

        /** As streams.playback.minute.bucket. */
        private static int bucket(long value) {
            int shift = Math.max(0, Long.SIZE - Long.numberOfLeadingZeros(value) - BUCKET_BITS);
            return (shift << BUCKET_BITS - 1) + (int) (value >> shift);
        }

        private Sums cell(long at, byte about, byte oca) {
            return cells.computeIfAbsent(new Cell(minute(at), about, oca), cell -> new Sums());
        }

        List<RowData> rows() {
            List<RowData> rows = new ArrayList<>();
            cells.forEach((cell, added) -> {
                if (!added.isNothing()) {
                    rows.add(row(cell, added));
                }
            });
            return rows;
        }

        private RowData row(Cell cell, Sums added) {
            GenericRowData row = new GenericRowData(2 + FIELDS + SUMS + added.counts.size());
            int place = 0;
            row.setField(place++, TimestampData.fromEpochMillis(cell.minute));
            String[] fields = names.fields(cell.about);
            row.setField(place++, fields[0].isEmpty() ? null : Integer.valueOf(fields[0]));
            for (int i = 1; i < FIELDS; i++) {
                row.setField(place++, StringData.fromString(fields[i]));
            }
            row.setField(place++, StringData.fromString(names.get(cell.oca)));
            for (long sum : added.sums) {
                row.setField(place++, sum);
            }
            for (Map<Integer, Long> counts : added.counts) {
                Map<StringData, Long> named = new HashMap<>();
                counts.forEach((bucket, count) -> named.put(StringData.fromString(bucket.toString()), count));
                row.setField(place++, new GenericMapData(named));
            }
            return row;
        }
    }

    /** The texts of a session: its cache servers, targets and dimensions, each once, as length and bytes one after another. Places count from 1. */
    private static class Names {
        private static final int MOST = 255;

        private final List<String> texts = new ArrayList<>();
        private final Map<Integer, Byte> filled = new HashMap<>();
        private byte[] bytes;

        Names(byte[] bytes) {
            this.bytes = bytes;
            for (ByteBuffer rest = ByteBuffer.wrap(bytes); rest.hasRemaining(); ) {
                byte[] text = new byte[rest.getInt()];
                rest.get(text);
                texts.add(new String(text, StandardCharsets.UTF_8));
            }
        }

        byte[] bytes() {
            return bytes;
        }

        String get(byte place) {
            return place == 0 ? "" : texts.get(Byte.toUnsignedInt(place) - 1);
        }

        /** The dimensions in a text; all of them empty where there is none. */
        String[] fields(byte place) {
            return place == 0 ? new String[] {"", "", "", "", ""} : get(place).split(BETWEEN_FIELDS, FIELDS);
        }

        /** Dimensions as they were said first: what was empty is filled from what is said now. */
        byte filled(byte first, byte now) {
            if (first == now || now == 0) {
                return first;
            }
            return first == 0 ? now : filled.computeIfAbsent(Byte.toUnsignedInt(first) << Byte.SIZE | Byte.toUnsignedInt(now), both -> {
                String[] fields = fields(first);
                for (int i = 0; i < FIELDS; i++) {
                    fields[i] = fields[i].isEmpty() ? fields(now)[i] : fields[i];
                }
                byte[] text = String.join(BETWEEN_FIELDS, fields).getBytes(StandardCharsets.UTF_8);
                byte[] more = with(bytes, text);
                if (more != bytes) {
                    bytes = more;
                    texts.add(new String(text, StandardCharsets.UTF_8));
                }
                byte place = place(bytes, text);
                return place == 0 ? first : place;
            });
        }

        /** The same names, or, where a text is not among them and there is room, with it. */
        static byte[] with(byte[] names, byte[] text) {
            int known = 0;
            for (int i = 0; i < names.length; i += Integer.BYTES + length(names, i)) {
                if (is(names, i, text)) {
                    return names;
                }
                known++;
            }
            return known == MOST
                    ? names
                    : ByteBuffer.allocate(names.length + Integer.BYTES + text.length).put(names).putInt(text.length).put(text).array();
        }

        /** The place of a text; 0 where it is not among them. */
        static byte place(byte[] names, byte[] text) {
            int place = 1;
            for (int i = 0; i < names.length; i += Integer.BYTES + length(names, i), place++) {
                if (is(names, i, text)) {
                    return (byte) place;
                }
            }
            return 0;
        }

        private static boolean is(byte[] names, int at, byte[] text) {
            int from = at + Integer.BYTES;
            return length(names, at) == text.length && Arrays.equals(names, from, from + text.length, text, 0, text.length);
        }

        private static int length(byte[] names, int at) {
            return ByteBuffer.wrap(names).getInt(at);
        }
    }
}
