# The serving image: no torch, no compiler, no shell needed, not root, happy with a read-only root file system.
#
#   docker build -t maskstream:cpu .                              any x86-64 machine
#   docker build -t maskstream:gpu --build-arg VARIANT=gpu .      run it with --gpus all
#   docker run --rm --read-only --tmpfs /tmp -p 50051:50051 -p 9464:9464 maskstream:cpu
#
# VARIANT picks the lock: requirements/serve-cpu.lock or serve-gpu.lock. The CUDA libraries come as wheels, so both
# variants start from the same base and the host brings only its driver.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG VARIANT=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/maskstream
WORKDIR /src
# The lock alone first: a change in the code does not install the world again.
COPY requirements/serve-${VARIANT}.lock requirements.lock
RUN /opt/maskstream/bin/pip install --requirement requirements.lock
COPY . .
RUN /opt/maskstream/bin/pip install --no-deps . && /opt/maskstream/bin/pip uninstall --yes pip setuptools
# OpenVINO brings plugins for Intel's GPUs and NPUs and readers of other formats: 75 MB that this image has no use for.
RUN cd /opt/maskstream/lib/python3.11/site-packages && if [ -d openvino ]; then cd openvino/libs && rm -rf \
      libopenvino_intel_gpu_plugin.so libopenvino_intel_npu_* cache.json \
      libopenvino_gguf_* libopenvino_paddle_* libopenvino_pytorch_* libopenvino_tensorflow_*; fi

FROM ${PYTHON_IMAGE} AS serve
ARG VARIANT=cpu
LABEL org.opencontainers.image.title="maskstream" \
      org.opencontainers.image.description="Follows objects through live video: gRPC in, masks out." \
      org.opencontainers.image.licenses="Apache-2.0" \
      maskstream.variant="${VARIANT}"
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent maskstream
COPY --from=build /opt/maskstream /opt/maskstream
ENV PATH=/opt/maskstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LD_LIBRARY_PATH=/opt/maskstream/lib/python3.11/site-packages/nvidia/cu13/lib:/opt/maskstream/lib/python3.11/site-packages/nvidia/cudnn/lib
USER 10001:10001
WORKDIR /tmp
# 50051: gRPC. 9464: /metrics, /livez, /readyz.
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=300s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/readyz', timeout=2)"]
ENTRYPOINT ["maskstream-serve"]
CMD ["--listen", "0.0.0.0:50051", "--http", "0.0.0.0:9464"]
