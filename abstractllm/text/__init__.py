"""What lies between tokens and users, for any local engine. Knows no engine, no model library and no I/O."""
