"""Changes of stored documents that a release needs: modules for `beanie.migrations`, run in order of their names."""
