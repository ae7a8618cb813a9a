"""The library: everything that computes. Code only; trained weights live under artifacts/, never here."""
