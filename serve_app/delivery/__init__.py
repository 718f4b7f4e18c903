"""How answers reach clients: waiting, event streams, large bodies, slow readers."""
