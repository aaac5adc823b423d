"""Files: documents in, bytes out. No HTTP, and of MongoDB only its format, BSON."""
