"""Features of members and titles, kept up to date from events: pure functions and plain tables."""
