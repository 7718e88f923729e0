"""Jobs about cache servers: which may be sent to, what they hold, and why they missed."""
