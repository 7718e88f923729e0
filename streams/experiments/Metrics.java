package headrace.experiments;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.core.JsonProcessingException;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

/** What is counted, as streams/experiments/batch.py says it in JSON, and the numbers that names of measured values have in the state. */
final class Metrics {
    private static final String BELOW = "/below";

    enum Kind {
        SUM,
        COUNT,
        MEAN,
        PROPORTION,
        RATIO,
        QUANTILE,
        TIME_TO_EVENT
    }

    /** A metric; {@code below} is the number of its denominators, or -1. */
    record Metric(String key, Kind kind, long windowMs, long covariateMs, long intervalMs, int below) {
        boolean needsAValue() {
            return kind == Kind.MEAN || kind == Kind.RATIO;
        }
    }

    final int mostADay;
    final long latestMs;
    final long largest;
    /** The longest of all. */
    final long windowMs;
    final long covariateMs;
    /** Of all that has ever been measured here, in an order that only grows: what is in the state refers to it. */
    final List<String> names;

    private final Map<String, Integer> numbers = new HashMap<>();
    /** By number; null where it is a denominator or is counted no more. */
    private final Metric[] metrics;

    /** {@code known}: the names as they were before. */
    Metrics(String argument, List<String> known) {
        JsonNode told;
        try {
            told = new ObjectMapper().readTree(argument);
        } catch (JsonProcessingException error) {
            throw new IllegalArgumentException("the metrics are no JSON: " + error.getOriginalMessage(), error);
        }
        mostADay = told.get("most_a_day").asInt();
        latestMs = told.get("latest_ms").asLong();
        largest = told.get("largest").asLong();
        names = new ArrayList<>(known);
        names.forEach(name -> numbers.put(name, numbers.size()));
        for (JsonNode metric : told.get("metrics")) {
            number(metric.get("key").asText());
            if (kind(metric) == Kind.RATIO) {
                number(metric.get("key").asText() + BELOW);
            }
        }
        metrics = new Metric[names.size()];
        long longestWindow = 0;
        long longestCovariate = 0;
        for (JsonNode one : told.get("metrics")) {
            String key = one.get("key").asText();
            Metric metric = new Metric(
                    key, kind(one), one.get("window_ms").asLong(), one.get("covariate_ms").asLong(), one.get("interval_ms").asLong(),
                    numbers.getOrDefault(key + BELOW, -1));
            metrics[numbers.get(key)] = metric;
            longestWindow = Math.max(longestWindow, metric.windowMs);
            longestCovariate = Math.max(longestCovariate, metric.covariateMs);
        }
        windowMs = longestWindow;
        covariateMs = longestCovariate;
    }

    /** How long after an exposure's longest window something may still come of it: what is late, or moved by a correction, which is taken to stay as near. */
    long openMs() {
        return windowMs + 2 * latestMs;
    }

    /** What an older record cannot change, nor tell the version of what can. */
    long keptMs() {
        return openMs() + covariateMs + latestMs;
    }

    int size() {
        return metrics.length;
    }

    Metric get(int number) {
        return metrics[number];
    }

    /** The number of a name; -1 where nobody counts it. */
    int of(String name) {
        return numbers.getOrDefault(name, -1);
    }

    private void number(String name) {
        if (numbers.putIfAbsent(name, numbers.size()) == null) {
            names.add(name);
        }
    }

    private static Kind kind(JsonNode metric) {
        return Kind.valueOf(metric.get("aggregation").asText().toUpperCase());
    }
}
