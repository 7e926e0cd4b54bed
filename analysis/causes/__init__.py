"""Which class of cause a failed audit points to."""
