"""What ops see of the service while it runs."""
