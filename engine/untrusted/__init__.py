"""What runs in the sandboxed process alone: the only code that decodes a picture of a stranger.

Imports Pillow and the standard library, nothing else of ours; asked by engine.intake over pipes.
"""
