"""Is the record true? Files, order, motion, single steps, ledger, replay."""
