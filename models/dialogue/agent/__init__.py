"""The dialogue agent: retrieval, meta knowledge and response generation at run time."""
