"""Which units a model has, what is coupled to each, and how to cut them exactly."""
