"""Rules without a database: which job is next, what is preempted, what a lost attempt costs."""
