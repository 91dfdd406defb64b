"""Finds plugins, and binds a spec to the components that it names."""
