package headrace.playback;

import static org.apache.flink.table.annotation.ArgumentTrait.SET_SEMANTIC_TABLE;

import java.util.Arrays;
import org.apache.flink.table.annotation.ArgumentHint;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.annotation.StateHint;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;
import org.apache.flink.table.functions.ProcessTableFunction;

/**
 * Which reports does each session consist of, and when has it said all? A process table function (FLIP-440) over packed reports, by session.
 *
 * <p>A session's reports are held while it plays and let go soon after: when a report has closed it and nothing came for {@link #KEPT_MS}, or when nothing
 * came for {@link #SILENCE_MS}. What comes later begins another stretch of the session, told apart by its {@code first_offset}. A timeline comes out
 *
 * <ul>
 *   <li>once the session has closed: at once if no number up to its last lacks, otherwise {@link #HOLES_MS} later;
 *   <li>when it is let go, if anything came since it last came out;
 *   <li>when it is as long as a record may be, and what follows is another stretch.
 * </ul>
 *
 * <p>Time is event time: the watermark, at which a report that is late counts as having happened. So an outage of the job loses nothing however long it
 * lasts, and a recorded log gives the same stretches at any speed but for reports about as late as a session is kept.
 *
 * <p>It is in Java because it runs once per report: SQL has no way to let a group go when it is complete (docs/adr/0009). Flink compares a value state with
 * what it was after each row, so the long part of the state is in a view, which it leaves alone; and it counts all timers when asked to clear
 * those of one session, so one that is out of date is left to fire.
 */
@FunctionHint(
        output = @DataTypeHint(
                value = "ROW<first_offset BIGINT, first_report_at TIMESTAMP(3), last_report_at TIMESTAMP(3), timeline STRING>",
                bridgedTo = RowData.class))
public class Timelines extends ProcessTableFunction<RowData> {

    private static final long serialVersionUID = 1;

    /** Without a report for longer than this a session is over, as in streams/playback/qoe.py. */
    private static final long SILENCE_MS = 60_000;

    /** A closed session is kept for what was overtaken by its closing report, or follows it. */
    private static final long KEPT_MS = 10_000;

    /** How long a closed session waits for numbers that lack. */
    private static final long HOLES_MS = 1_000;

    /** Bytes of the longest timeline. Only a flood of duplicates gets there; Kafka takes 10 MB. */
    private static final int LONGEST = 8_000_000;

    /** BETWEEN_REPORTS of streams/playback/timeline.py. */
    private static final byte BETWEEN_REPORTS = 0x1e;

    private static final int BYTES_AT_FIRST = 1_024;
    private static final int ALL = 0;

    /** What is known of a session beside its reports. Times in ms since 1970. */
    public static class Session {
        public int bytes;
        public int reports;
        public long mostNumber;
        /** All numbers from 1 below this one have come. Some players begin with 0: where that one lacks, it is not missed. */
        public long nextNumber = 1;
        /** Which of the 64 numbers from {@code nextNumber} have come, the lowest bit first; one further ahead is not noted. */
        public long ahead;
        public long firstOffset = -1;
        public long firstReportAt = Long.MAX_VALUE;
        public long lastReportAt = Long.MIN_VALUE;
        /** When it will be let go, as far as is known. */
        public long letGoAt = Long.MIN_VALUE;
        /** When its next timer fires. Those it had before mean nothing. */
        public long wokenAt = Long.MAX_VALUE;
        public boolean closed;
        public boolean cameOut;
        public boolean changed;

        void note(long number) {
            mostNumber = Math.max(mostNumber, number);
            long distance = number - nextNumber;
            if (distance >= 0 && distance < Long.SIZE) {
                ahead |= 1L << distance;
                int come = Long.numberOfTrailingZeros(~ahead);
                nextNumber += come;
                ahead = come == Long.SIZE ? 0 : ahead >>> come;
            }
        }

        boolean isWhole() {
            return nextNumber > mostNumber;
        }
    }

    /** Take one report. Columns of {@code packed}: the session, its packed report and when that happened, its number, its offset in the topic, 1 if it closes. */
    public void eval(
            Context context,
            @StateHint(ttl = "0 s") Session session,
            @StateHint(ttl = "0 s") MapView<Integer, byte[]> reports,
            @ArgumentHint(
                            value = SET_SEMANTIC_TABLE,
                            type = @DataTypeHint(
                                    value = "ROW<sid STRING, report STRING, event_time TIMESTAMP(3), sn BIGINT, topic_offset BIGINT, closes INT>",
                                    bridgedTo = RowData.class))
                    RowData packed)
            throws Exception {
        long at = packed.getTimestamp(2, 3).getMillisecond();
        if (session.reports == 0) {
            session.firstOffset = packed.getLong(4);
        }
        byte[] held = add(session, reports, ((BinaryStringData) packed.getString(1)).toBytes());
        session.reports++;
        session.note(packed.getLong(3));
        session.firstReportAt = Math.min(session.firstReportAt, at);
        session.lastReportAt = Math.max(session.lastReportAt, at);
        session.closed |= packed.getInt(5) == 1;
        session.changed = true;

        if (session.bytes > LONGEST) {
            comeOut(session, held);
            context.clearAllState();
            return;
        }
        boolean waiting = session.closed && !session.cameOut;
        if (waiting && session.isWhole()) {
            comeOut(session, held);
            waiting = false;
        }
        TimeContext<Long> time = context.timeContext(Long.class);
        Long watermark = time.currentWatermark();
        long now = watermark == null || watermark < 0 ? 0 : watermark;
        session.letGoAt = Math.max(session.lastReportAt, now) + (session.closed ? KEPT_MS : SILENCE_MS);
        wake(time, session, waiting ? now + HOLES_MS : session.letGoAt);
    }

    /** Let a session come out, or go, when its time has come. */
    public void onTimer(OnTimerContext context, Session session, MapView<Integer, byte[]> reports) throws Exception {
        TimeContext<Long> time = context.timeContext(Long.class);
        long now = time.time();
        if (now != session.wokenAt) {
            if (session.reports == 0) {
                context.clearAllState(); // it was let go; Flink would keep the empty session that it made for this call
            }
            return;
        }
        session.wokenAt = Long.MAX_VALUE;
        boolean over = now >= session.letGoAt;
        if (session.changed && (over || (session.closed && !session.cameOut))) {
            comeOut(session, reports.get(ALL));
        }
        if (over) {
            context.clearAllState();
        } else {
            wake(time, session, session.letGoAt);
        }
    }

    private static byte[] add(Session session, MapView<Integer, byte[]> reports, byte[] report) throws Exception {
        byte[] held = session.reports == 0 ? new byte[BYTES_AT_FIRST] : reports.get(ALL);
        int needed = session.bytes + 1 + report.length;
        if (needed > held.length) {
            held = Arrays.copyOf(held, Math.max(needed, held.length / 2 * 3));
        }
        if (session.reports > 0) {
            held[session.bytes++] = BETWEEN_REPORTS;
        }
        System.arraycopy(report, 0, held, session.bytes, report.length);
        session.bytes += report.length;
        reports.put(ALL, held);
        return held;
    }

    private static void wake(TimeContext<Long> time, Session session, long at) {
        if (at < session.wokenAt) {
            session.wokenAt = at;
            time.registerOnTime(at);
        }
    }

    private void comeOut(Session session, byte[] held) {
        session.cameOut = session.closed;
        session.changed = false;
        collect(GenericRowData.of(
                session.firstOffset,
                TimestampData.fromEpochMillis(session.firstReportAt),
                TimestampData.fromEpochMillis(session.lastReportAt),
                BinaryStringData.fromBytes(held, 0, session.bytes)));
    }
}
