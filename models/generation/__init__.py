"""Loading language models and letting them answer: transformers in process, or an HTTP endpoint."""
