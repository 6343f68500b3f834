"""A backend for tests: a process of its own that runs nothing, forgets nothing and fails on demand."""
