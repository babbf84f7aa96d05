"""Small specs for tests: built in Python, checked like a file, and varied ones drawn from a seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from planner.pipeline import PlanOptions, plan_spec
from planner.plan_file import Plan
from planner.progress import Progress
from planner.spec_load import Loaded, checked
from planner.spec_yaml import Document

Dict = dict[str, Any]
GPUS = ("l4-24gb", "a10g-24gb", "a100-sxm-40gb", "l40s-48gb", "h100-sxm-80gb")
SMALL_MODELS = ("qwen3-0.6b", "llama-3.2-1b", "llama-3.1-8b")
OPTIONS = PlanOptions(draws=2, workers=1)
ZONES = ("zone-a", "zone-b")


def pool(name: str = "main", gpu: str = "l4-24gb", **fields: Any) -> Dict:
    """A pool; 8 nodes of 4 GPUs can be bought unless the fields say otherwise."""
    given = {"name": name, "gpu": gpu, "gpus_per_node": 4, **fields}
    return given if "nodes" in given else {"max_nodes": 8, **given}


def model(name: str = "small", architecture: str = "qwen3-0.6b", **fields: Any) -> Dict:
    """A model of the catalogue on one GPU, with a short context."""
    given = {"name": name, "architecture": architecture, "parallelism": {"tp": [1]}, **fields}
    return given if architecture == "bge-m3" else {"max_model_len": 4096, **given}


def workload(name: str = "chat", **fields: Any) -> Dict:
    """A workload of short requests with an SLO that any GPU meets at some rate."""
    return {
        "name": name,
        "model": "small",
        "traffic": {"rate_rps": 4.0},
        "tokens": {"input": {"mean": 300, "cv": 0.5}, "output": {"mean": 40, "cv": 0.5}},
        "slo": {"ttft_ms": 1000, "tpot_ms": 100, "attainment": 0.9},
        **fields,
    }


def spec(**fields: Any) -> Dict:
    """A spec of one pool, model and workload unless the fields give others. `pools` stands for cluster.pools."""
    given = {"version": 1, "models": [model()], "workloads": [workload()], **fields}
    given["cluster"] = {"pools": given.pop("pools", None) or [pool()]}
    return given


def load(data: Mapping[str, Any], folder: Path = Path()) -> Loaded:
    """The spec checked as if it had been read from a file in that folder."""
    return checked(Document(file="spec.yaml", data=dict(data)), folder)


def plan(data: Mapping[str, Any], folder: Path = Path(), options: PlanOptions = OPTIONS) -> Plan:
    """The plan of a spec, by few draws."""
    return plan_spec(load(data, folder), options, Progress())


def write_tables(folder: Path) -> None:
    """A latency table (ranker.csv) and a capacity table (legacy.csv) for every GPU of `GPUS`."""
    latency = ["gpu,tp,pp,batch,stage,latency_s,weight_bytes"]
    capacity = ["gpu,input_tokens_max,output_tokens_max,rate_rps"]
    for position, gpu in enumerate(GPUS):
        speed = 1.0 + position
        for batch in (1, 2, 4, 8, 16):
            latency.append(f"{gpu},1,1,{batch},0,{(0.008 + 0.002 * batch) / speed:.6f},1200000000")
            latency += [f"{gpu},1,2,{batch},{s},{(0.005 + 0.001 * batch) / speed:.6f},600000000" for s in (0, 1)]
        capacity.append(f"{gpu},512,128,{4.0 * speed}")
        capacity.append(f"{gpu},8192,1024,{0.5 * speed}")
    (folder / "ranker.csv").write_text("\n".join(latency) + "\n")
    (folder / "legacy.csv").write_text("\n".join(capacity) + "\n")


def random_spec(seed: int) -> Dict:
    """A varied small spec: pools, models, workloads, SLOs from loose to hopeless, and every word; tables by name."""
    return _Draw(np.random.default_rng(seed)).spec()


class _Draw:
    """One random spec, field by field."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def one(self, *values: Any) -> Any:
        """One of the values, as it was given."""
        return values[int(self.rng.integers(len(values)))]

    def chance(self, share: float) -> bool:
        """True with that probability."""
        return bool(self.rng.random() < share)

    def spec(self) -> Dict:
        """The whole spec."""
        pools = [self.pool(i) for i in range(self.one(1, 1, 2, 2, 3))]
        models = self.models()
        workloads = [self.workload(i, self.one(*models)) for i in range(self.one(1, 1, 2, 2, 3, 4))]
        rules = [self.rule(pools, models, workloads) for _ in range(self.one(0, 0, 1, 1, 2, 3))]
        return spec(
            pools=pools, models=models, workloads=workloads, constraints=rules, allow_unmet=bool(self.chance(0.25))
        )

    def pool(self, index: int) -> Dict:
        """A pool, given or bought, by the node or by the GPU."""
        nodes = self.one(1, 2, 3, 6)
        found = {
            "name": f"pool-{index}",
            "gpu": self.one(*GPUS),
            self.one("nodes", "max_nodes", "max_nodes"): nodes,
            "gpus_per_node": self.one(1, 2, 3, 4, 8),
            "buy": self.one("node", "gpu"),
            "racks": int(self.rng.integers(1, min(nodes, 3) + 1)),
            "zone": self.one(*ZONES),
            "billing": self.one("on_demand", "on_demand", "spot", "reserved"),
        }
        if self.chance(0.3):
            found["price_usd_per_gpu_hour"] = self.one(0.0, 0.5, 3.0)
        return found

    def models(self) -> list[Dict]:
        """One to three models, measured ones among them."""
        found = []
        for index in range(self.one(1, 1, 2, 3)):
            name = f"model-{index}"
            kind = self.one("llm", "llm", "llm", "llm", "embed", "latency", "capacity")
            if kind == "latency":
                found.append({"name": name, "latency_table": "ranker.csv"})
            elif kind == "capacity":
                found.append({"name": name, "capacity_table": "legacy.csv"})
            elif kind == "embed":
                found.append(model(name, "bge-m3"))
            else:
                found.append(self.llm(name))
        return found

    def llm(self, name: str) -> Dict:
        """A small model with a search space of one to three layouts."""
        found = model(name, self.one(*SMALL_MODELS), parallelism={"tp": self.one([1], [1], [1, 2], [2])})
        if self.chance(0.15):
            found["parallelism"]["pp"] = [1, 2]
        if self.chance(0.15):
            found["quantizations"] = self.one(["fp8"], ["bf16", "fp8"])
        return found

    def workload(self, index: int, served: Dict) -> Dict:
        """A workload of a model, with limits that fit the kind of the model."""
        found: Dict = {
            "name": f"work-{index}",
            "model": served["name"],
            "traffic": {"rate_rps": self.one(0.3, 2.0, 8.0, 25.0), "burstiness_cv": self.one(0.0, 1.0, 1.0, 2.0)},
            "priority": self.one(1, 1, 2, 3),
            "best_effort": self.chance(0.15),
            "router": self.one("least_loaded", "least_loaded", "round_robin"),
        }
        attainment = self.one(0.8, 0.9, 0.95)
        if "latency_table" in served:
            found["slo"] = {"e2e_ms": self.one(5, 60, 200, 1000), "attainment": attainment}
            return found
        found["tokens"] = self.tokens()
        if "capacity_table" in served:
            found["slo"] = {"attainment": attainment}
        elif served["architecture"] == "bge-m3":
            found["tokens"] = {"input": {"mean": self.one(100, 500), "cv": 0.5}, "output": {"mean": 1, "cv": 0.0}}
            found["slo"] = {"e2e_ms": self.one(20, 100, 1000), "attainment": attainment}
        else:
            found["slo"] = {**self.limits(), "attainment": attainment}
            self.refine(found)
        return found

    def tokens(self) -> Dict:
        """Lengths within a context of 4096, mostly."""
        return {
            "input": {"mean": self.one(30, 200, 800), "cv": self.one(0.0, 0.5, 1.0)},
            "output": {"mean": self.one(1, 20, 80), "cv": self.one(0.0, 0.5, 1.0)},
        }

    def limits(self) -> Dict:
        """Limits of an LLM workload: any of the three, loose, tight or hopeless."""
        found = {}
        if self.chance(0.7):
            found["ttft_ms"] = self.one(40, 300, 1000, 5000)
        if self.chance(0.6):
            found["tpot_ms"] = self.one(2, 15, 40, 150)
        if self.chance(0.2) or not found:
            found["e2e_ms"] = self.one(500, 3000, 20000)
        return found

    def refine(self, found: Dict) -> None:
        """Length classes, a prefix cache, another router."""
        if self.chance(0.2):
            found["length_classes"] = self.one([128], [256, 1024])
        if self.chance(0.2):
            found["prefix_cache_hit_fraction"] = self.one(0.3, 0.8)
        if self.chance(0.1):
            found["router"] = "least_kv"

    def rule(self, pools: list[Dict], models: list[Dict], workloads: list[Dict]) -> Dict:
        """Any of the words."""
        kind = self.one(
            "max_gpus", "budget", "min_replicas", "max_replicas", "spread", "avoid", "pin", "never_together", "survive"
        )
        some_pool, some_workload = self.one(*pools), self.one(*workloads)
        if kind == "max_gpus":
            return {"kind": kind, "count": self.one(1, 4, 16)} | (
                {"pool": some_pool["name"]} if self.chance(0.5) else {}
            )
        if kind == "budget":
            return {"kind": kind, "usd_per_hour": self.one(1.0, 5.0, 40.0)}
        if kind == "never_together" and len(workloads) > 1:
            pair = self.rng.choice(len(workloads), 2, replace=False)
            names = [workloads[i]["name"] for i in pair.tolist()]
            return {"kind": kind, "workloads": names, "over": self.one("node", "rack", "zone")}
        if kind in ("survive", "never_together"):
            return {
                "kind": "survive",
                "workload": some_workload["name"],
                "loss": self.one("node", "rack", "zone"),
                "fraction": self.one(0.3, 0.7, 1.0),
            }
        subject = {"workload": some_workload["name"]} if self.chance(0.6) else {"model": self.one(*models)["name"]}
        return {"kind": kind, **subject, **self.about(kind, some_pool)}

    def about(self, kind: str, some_pool: Dict) -> Dict:
        """What a word on one workload or model asks for."""
        if kind in ("min_replicas", "max_replicas"):
            return {"count": self.one(0, 1, 2, 6)} | ({"pool": some_pool["name"]} if self.chance(0.3) else {})
        if kind == "spread":
            return {"over": self.one("node", "rack", "zone"), "min_domains": self.one(2, 2, 3)}
        if kind == "pin" and self.chance(0.4):
            return {"zone": some_pool["zone"]}
        return {"pool": some_pool["name"]}
