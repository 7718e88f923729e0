"""The delivery network as a file, and what of it is told to the backbone."""
