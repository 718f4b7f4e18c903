"""What is run by hand: training, the demo, benches. Nothing imports from here."""
