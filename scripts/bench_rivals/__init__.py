"""`make bench-rivals`: the stack beside what else could serve a model on GPUs, where a pass
takes its time and leaves the processor alone. `plan.py` says what each side is given, `figures.py`
what the keys mean, `scripts/bench/rivals/` what each rival is."""
