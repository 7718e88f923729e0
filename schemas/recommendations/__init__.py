"""Features: what a team writes, and the contracts that they are made of."""
