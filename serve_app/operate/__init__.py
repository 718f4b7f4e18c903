"""The `meltproof` command: run, check, diff, apply, plan, and what they need."""
