"""Settings, log, clock and the only place where Kafka, registry and warehouse clients are made."""
