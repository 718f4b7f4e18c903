"""How well pictures say where they came from. See __main__."""
