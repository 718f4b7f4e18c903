"""What a config file would do under load: discrete events on a fake clock, with the production
fair queue, engine scheduler and scaling policies. Deterministic by seed; no I/O but in reports."""
