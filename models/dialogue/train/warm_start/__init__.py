"""The retriever's warm start by distant supervision."""
