"""The configuration: frozen sections, validated at start."""
