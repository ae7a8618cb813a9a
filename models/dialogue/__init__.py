"""Wing two, MK-TOD: data, retrieval, generators, agent, joint training."""
