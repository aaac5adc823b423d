"""Dossier: a document-store microservice on MongoDB."""
