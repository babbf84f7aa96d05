"""The keys of a Hugging Face `config.json`, read with their types checked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiles.errors import ProfileError
from profiles.precision import Quantization

MAX_CONFIG_BYTES = 5_000_000
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
INTEGER_BITS = {4: Quantization.INT4, 8: Quantization.INT8}


class ConfigFile:
    """The keys of one config.json, read with their type checked; errors name the file and the key."""

    def __init__(self, path: Path, values: Mapping[str, Any], prefix: str = "") -> None:
        self.path = path
        self.values = values
        self.prefix = prefix

    def integer(self, *keys: str, default: int | None = None) -> int:
        """The first of `keys` that is there, as a positive whole number; ProfileError when it is none."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**40:
                raise self.fault(keys[0], f"must be a positive whole number, not {_shown(value)}")
            return value
        if default is None:
            raise self.fault(keys[0], "is missing")
        return default

    def count(self, key: str) -> int:
        """A whole number that may be zero or absent (0)."""
        return 0 if self.values.get(key) in (None, 0) else self.integer(key)

    def flag(self, key: str, default: bool) -> bool:
        """A boolean; ProfileError when it is something else."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, f"must be true or false, not {_shown(value)}")
        return value

    def text(self, key: str, default: str = "") -> str:
        """A string; ProfileError when it is something else."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.fault(key, f"must be a text, not {_shown(value)}")
        return value

    def part(self, key: str) -> "ConfigFile":
        """The mapping under a key (an empty one when it is absent)."""
        value = self.values.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.fault(key, f"must be a mapping, not {_shown(value)}")
        return ConfigFile(self.path, value, f"{self.prefix}{key}.")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings (empty when absent); ProfileError when it is something else."""
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fault(key, "must be a list of texts")
        return tuple(value)

    def fault(self, key: str, what: str) -> ProfileError:
        """The error for a key."""
        return ProfileError(f"{self.path}: {self.prefix}{key} {what}.")


def read_config_file(path: Path) -> ConfigFile:
    """The keys of a `config.json`; ProfileError when it cannot be read, is over 5 MB or holds no JSON object."""
    try:
        with path.open("rb") as file:
            payload = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}.") from error
    if len(payload) > MAX_CONFIG_BYTES:
        raise ProfileError(f"{path} is over {MAX_CONFIG_BYTES // 10**6} MB: this is no config.json of a model.")
    try:
        values = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is not valid JSON: {str(error) or 'nested too deeply'}.") from error
    if not isinstance(values, dict):
        raise ProfileError(f"{path} must hold a JSON object.")
    return ConfigFile(path, values)


def native_format(config: ConfigFile) -> Quantization:
    """The model's own format: that of `quantization_config` when it has one, else of torch_dtype (bf16 when unsaid)."""
    quantized = config.part("quantization_config")
    if quantized.values:
        return _quantized_format(quantized)
    text = config.part("text_config")
    named = config.text("torch_dtype") or config.text("dtype") or text.text("torch_dtype") or text.text("dtype")
    dtype = DTYPES.get(named or "bfloat16")
    if dtype is None:
        raise config.fault("torch_dtype", f"names {named!r}; known are {', '.join(DTYPES)}")
    return Quantization(dtype)


def _quantized_format(config: ConfigFile) -> Quantization:
    method = config.text("quant_method").lower()
    if method in ("", "modelopt"):
        method = config.text("quant_algo").lower()
    if method == "fp8":
        return _fp8_format(config)
    if method in ("awq", "gptq"):
        bits = config.integer("bits", "w_bit", default=4)
        if bits != 4:
            raise config.fault("bits", f"is {bits}; {method} is known with 4 bits only")
        return Quantization(method)
    if method in ("mxfp4", "nvfp4"):
        return Quantization(method)
    if method == "compressed-tensors":
        return _compressed_format(config)
    raise config.fault("quant_method", f"names {method!r}; known are fp8, awq, gptq, mxfp4, nvfp4, compressed-tensors")


def _fp8_format(config: ConfigFile) -> Quantization:
    block = config.values.get("weight_block_size")
    if block is None:
        return Quantization.FP8
    if block != [128, 128]:
        raise config.fault("weight_block_size", f"is {_shown(block)}; known is [128, 128]")
    return Quantization.FP8_BLOCK


def _compressed_format(config: ConfigFile) -> Quantization:
    """The weights' format of llm-compressor's first group of layers."""
    weights = config.part("config_groups").part("group_0").part("weights")
    bits, kind = weights.integer("num_bits"), weights.text("type")
    if kind == "float" and bits == 8:
        return Quantization.FP8_BLOCK if weights.text("strategy") == "block" else Quantization.FP8
    if kind == "float" and bits == 4:
        return Quantization.NVFP4
    if kind == "int" and bits in INTEGER_BITS:
        return INTEGER_BITS[bits]
    raise weights.fault("num_bits", f"is {bits} of type {kind!r}, which is not known")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
