"""A picture that says where it came from: a watermark in its pixels, a manifest in its file."""
