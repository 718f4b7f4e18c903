"""Rules without a database: whose turn it is, what is preempted, what a lost attempt costs."""
