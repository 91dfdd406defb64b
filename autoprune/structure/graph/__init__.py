"""The exported graph, and labels that run through it."""
