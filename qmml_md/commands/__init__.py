"""What the commands of ``qmml`` do, one module for each group; imported when a command is called."""
