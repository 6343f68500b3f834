"""The broker on one machine: a server for the state, and a supervisor for all processes (``broker dev``)."""
