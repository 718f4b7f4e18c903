"""`make bench`: the stack against its own engine and against rivals, every side doing the same
work on this machine. `figures.py` says what the keys mean, `rivals/` what each rival is."""
