"""The backend type ``kubernetes``: finite work as Jobs, services as Deployments."""
