"""PySCF's configuration where a user has none: empty. PySCF runs it instead of one found in the current folder."""
