"""vLLM's own counters, scraped from /metrics."""

import urllib.error
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from planner.runtime.errors import EngineError

SCRAPE_S = 10.0
STEPS = "vllm:iteration_tokens_total_count"
PREEMPTIONS = "vllm:num_preemptions_total"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
GENERATED_TOKENS = "vllm:generation_tokens_total"
KV_USED = "vllm:kv_cache_usage_perc"
WAITING = "vllm:num_requests_waiting"
RUNNING = "vllm:num_requests_running"
CACHE_INFO = "vllm:cache_config_info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """Values of an engine's metrics, added up over its labels, and the size of its KV cache in tokens."""

    values: dict[str, float]
    kv_tokens: int | None

    def get(self, name: str) -> float:
        """The value of a metric; 0 when the engine does not have it."""
        return self.values.get(name, 0.0)


def scrape(url: str) -> Scrape:
    """The metrics of an engine. EngineError when it does not give them."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=SCRAPE_S) as response:
            text = response.read().decode("utf-8", errors="replace")
        return read_metrics(text)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise EngineError(f"{url}/metrics cannot be read: {error}.") from error


def read_metrics(text: str) -> Scrape:
    """The metrics of a Prometheus text. ValueError when it is none."""
    values: dict[str, float] = {}
    kv_tokens = None
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + float(sample.value)
            if sample.name == CACHE_INFO:
                kv_tokens = _kv_tokens(sample.labels)
    return Scrape(values=values, kv_tokens=kv_tokens)


def _kv_tokens(labels: dict[str, str]) -> int | None:
    blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    return int(blocks) * int(size) if blocks.isdigit() and size.isdigit() else None
