"""Propose, then verify."""
