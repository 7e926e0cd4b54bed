"""Getting better, honestly: features, fine-tuning, and the gate that refuses a bad update."""
