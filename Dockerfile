# Noisereel's server.
#
#   docker build -t noisereel .                                    # for a CPU
#   docker build -t noisereel --build-arg TORCH=cu128 .            # for an NVIDIA GPU: docker run --gpus all ...
#   docker run -p 127.0.0.1:8000:8000 -v noisereel:/data -v ./keys:/run/keys:ro noisereel
#
# Licences of what the image carries. Noisereel is Apache-2.0, PyTorch BSD-3-Clause (its CUDA build brings NVIDIA's libraries
# under NVIDIA's own terms). PyAV's wheel is BSD-3-Clause and bundles FFmpeg, which states LGPL version 3 or later, linked with x264
# and x265, which are GPL version 2 or later: treat the whole as under GPL version 3 or later. libvpx (BSD), Opus (BSD), dav1d
# (BSD), SVT-AV1 (BSD with a patent licence), LAME (LGPL) and OpenCORE AMR (Apache-2.0) come with it. Whoever passes the image on passes
# these on, and has to offer their source: https://github.com/PyAV-Org/pyav-ffmpeg. H.264, which mp4 is written in, is covered by
# patents in some countries; webm is VP9, for which no royalties are asked.

ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
ARG TORCH=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md CITATION.cff ./
COPY src src
COPY weights weights
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --constraint constraints.txt torch \
      --index-url "https://download.pytorch.org/whl/${TORCH}" \
 && /venv/bin/pip install --no-cache-dir --constraint constraints.txt ".[serve,provenance]"

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 noisereel && mkdir /data && chown noisereel /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH HF_HUB_OFFLINE=1 HOME=/data OMP_WAIT_POLICY=PASSIVE
USER noisereel
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
# A container's own address is public to whoever can reach it, so keys are asked for: a file with NAME KEY on each line.
ENTRYPOINT ["noisereel", "serve", "--host", "0.0.0.0", "--data", "/data"]
CMD ["--api-key-file", "/run/keys"]
