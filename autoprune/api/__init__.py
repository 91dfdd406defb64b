"""The Python API: searches of live objects, studies as they stand, models saved again, and what is seen meanwhile."""
