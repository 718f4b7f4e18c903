"""What runs in the sandboxed process alone: the only code that decodes untrusted pictures.

Imports Pillow and the standard library, nothing else of ours; asked by engine.intake over pipes.
"""
