# The service alone, without the embedded MongoDB, which is for laptops; and what sets a replica set up for it.
FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /opt/dossier
COPY pyproject.toml README.md ./
COPY scripts/constraints.txt scripts/
COPY service service
RUN /opt/dossier/bin/pip install --no-cache-dir --constraint scripts/constraints.txt ".[parquet,traces,sentry]"
# Of the types that are in this image, so that what an analyst may see is as new as they are.
RUN /opt/dossier/bin/dossier database views >views.json

FROM mongo:8.0 AS setup
COPY scripts/mongosh /opt/mongosh
COPY --from=build /build/views.json /opt/mongosh/
ENV VIEWS_FILE=/opt/mongosh/views.json HOME=/tmp
USER mongodb
ENTRYPOINT []
CMD ["mongosh", "--quiet", "--norc", "mongodb://127.0.0.1:27017/?directConnection=true", \
    "--file", "/opt/mongosh/init-replica-set.js", "--file", "/opt/mongosh/create-users.js"]

FROM python:3.12-slim AS service
RUN useradd --system --uid 10001 --no-create-home dossier
COPY --from=build /opt/dossier /opt/dossier
ENV PATH=/opt/dossier/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DOSSIER_ENVIRONMENT=production \
    DOSSIER_HOST=0.0.0.0 \
    DOSSIER_PORT=8000
USER dossier
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=3)"]
CMD ["dossier", "serve"]
