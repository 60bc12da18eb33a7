# One image for the front and the replicas; the command that is run decides which it is (docs/scale.md).
FROM python:3.12-slim

# This index has PyTorch for CUDA; https://download.pytorch.org/whl/cpu has a CPU-only build, a tenth of the size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu128

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 HF_HOME=/models/hub PYTHONPATH=/app
WORKDIR /app

# The largest layer, which changes least, comes first.
RUN pip install torch torchvision --index-url "$TORCH_INDEX"
COPY requirements.txt requirements-cluster.txt ./
# wget is what KubeRay before 1.6 uses for its health checks.
RUN apt-get update && apt-get install --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/* && \
    pip install -r requirements.txt -r requirements-cluster.txt

COPY app.py ./
COPY ipa_app ipa_app
COPY assets assets
COPY deploy deploy

# User and group IDs match fsGroup in deploy/kubernetes.yaml.
RUN groupadd --gid 1000 studio && useradd --uid 1000 --gid 1000 --create-home studio && \
    mkdir -p /models /library && chown studio:studio /models /library
USER studio

ENV GRADIO_SERVER_NAME=0.0.0.0
EXPOSE 7860
CMD ["python", "app.py"]
