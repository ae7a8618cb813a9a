"""Tokenizers as byte-exact codecs: chat templates, vocabulary maps, token alignment."""
