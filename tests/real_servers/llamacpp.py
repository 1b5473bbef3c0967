"""llama.cpp's own HTTP server from the PyPI wheel `xllamacpp`; run as a script, it serves until its stdin ends."""

from __future__ import annotations

import json
import sys
from typing import Any, TypedDict


class Options(TypedDict):
    """What a server is started with."""

    model: str  # path of a GGUF file
    port: int
    key: str  # the API key that requests must have
    slots: int  # requests served at once
    context: int  # tokens a slot
    embeddings: bool  # embeddings instead of text


def parameters(options: Options) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["model"]
    params.model_alias = {"tiny"}
    params.hostnames = ["127.0.0.1"]
    params.port = options["port"]
    params.api_keys = [options["key"]]
    params.n_parallel = options["slots"]
    params.n_ctx = options["slots"] * options["context"]
    params.n_threads_http = 6
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_slots = True
    params.warmup = params.ui = False
    params.offline = True
    if options["embeddings"]:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return params


def main() -> None:
    import os

    import xllamacpp

    server = xllamacpp.Server(parameters(json.loads(sys.argv[1])))
    sys.stdin.read()  # the parent closes it, or is gone
    del server  # stops listening and joins its threads
    os._exit(0)


if __name__ == "__main__":
    main()
