# The service alone, without the embedded MongoDB, which is for laptops.
FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /opt/dossier
COPY pyproject.toml README.md ./
COPY scripts/constraints.txt scripts/
COPY service service
RUN /opt/dossier/bin/pip install --no-cache-dir --constraint scripts/constraints.txt ".[parquet,traces,sentry]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home dossier
COPY --from=build /opt/dossier /opt/dossier
ENV PATH=/opt/dossier/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DOSSIER_ENVIRONMENT=production \
    DOSSIER_HOST=0.0.0.0 \
    DOSSIER_PORT=8000
USER dossier
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
CMD ["dossier", "serve"]
