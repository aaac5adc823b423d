"""How documents are kept: the only package that talks to MongoDB."""
