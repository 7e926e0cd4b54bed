"""What a run writes down: frames, ledger and events, in files that other programs open."""
