"""How big and how deep the code is: what CONTRIBUTING promises, as numbers."""
