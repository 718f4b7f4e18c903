"""The weapons screen: pictures of the embedded model, and networks that are trained on them."""
