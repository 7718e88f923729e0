"""What is announced of titles before they are played, as a file, and what of it is told to the backbone."""
