"""Exact parameters, multiply-accumulates and bytes of candidates."""
