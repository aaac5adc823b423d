"""What is stored: one class here is one document type, with all its routes."""
