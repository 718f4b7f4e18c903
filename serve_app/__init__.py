"""What clients talk to, and the one file that wires everything."""
