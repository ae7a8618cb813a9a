"""The embedded models, trained here: small language models and reward models."""
