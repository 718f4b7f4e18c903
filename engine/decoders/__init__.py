"""One file per model family, each behind the Decoder protocol."""
