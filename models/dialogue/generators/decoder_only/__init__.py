"""The trained decoder-only generator: any causal LM, jointly trained with the retriever."""
