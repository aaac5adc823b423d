"""The service as one process or several: its sockets, signals and limits."""
