"""The janus family: pictures of autoregressive tokens (Janus and Janus-Pro of transformers)."""
