# syntax=docker/dockerfile:1
# The page in a container, as user 1000. Build: docker build -t calm-playground .
# Run with a read-only root: docker run --read-only --tmpfs /tmp -v calm-cache:/cache -p 7860:7860 calm-playground
FROM python:3.12-slim

# libgomp1 is OpenMP for the CPU kernels, gcc and libc6-dev compile Triton's launchers where there is a GPU.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libgomp1 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 user && mkdir /cache && chown user /cache
WORKDIR /home/user/app

# "make lock" writes requirements.lock. With it, pip installs only files that have the hashes in it.
COPY requirements.txt requirements.loc[k] ./
RUN pip install --no-cache-dir $(test -f requirements.lock && echo --require-hashes -r requirements.lock || echo -r requirements.txt)

COPY --chown=1000 . .

ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_TEMP_DIR=/tmp/gradio \
    HF_HOME=/cache/huggingface \
    NUMBA_CACHE_DIR=/cache/numba \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 1000

# Compiles the CPU kernels into the image. On another CPU the page compiles them again, into the volume.
RUN python -m calm.engine.warmup story-k4 story-ar

VOLUME /cache
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/health', timeout=4)"]
CMD ["python", "app.py"]
