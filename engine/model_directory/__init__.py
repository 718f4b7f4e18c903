"""A checkpoint directory, understood from its JSON files and safetensors headers alone. The bytes
of every part stand in those headers, so that no model is built, not even on torch's meta device:
gateways and commands read a directory without loading torch."""
