"""SOURCES: whoever writes events first. Everything is sent through `emit.Emitter`."""
