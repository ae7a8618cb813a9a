"""Causal language models (and the sentence encoder): resolved, loaded, prompted, answering; reward models; endpoints."""
