"""The run: loop, books, run directory and checkpoints."""
