"""Cutting: plans, sliced tensors, and what stands in for modules."""
