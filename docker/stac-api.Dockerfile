# The STAC API of compose.yaml: stac-fastapi-pgstac with the Transaction extension, in the versions the tests use.
# docker build -t scenefuse:stac-api -f docker/stac-api.Dockerfile .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE}
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
COPY tests/servers.txt /opt/
RUN python3 -m venv /opt/stac && /opt/stac/bin/pip install --requirement /opt/servers.txt \
    && useradd --create-home --uid 1000 stac
ENV PATH=/opt/stac/bin:$PATH ENABLE_TRANSACTIONS_EXTENSIONS=true
USER 1000
CMD ["sh", "-c", "pypgstac pgready && pypgstac migrate && exec uvicorn stac_fastapi.pgstac.app:create_app --factory --host 0.0.0.0 --port 8080"]
