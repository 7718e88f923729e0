"""The warehouse: one process that owns the embedded ClickHouse and serves it over ClickHouse's own HTTP protocol."""
