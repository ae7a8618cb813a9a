"""Response generators: one protocol, several kinds."""
