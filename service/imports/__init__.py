"""Files that people fill in, on their way to documents."""
