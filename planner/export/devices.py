"""What the targets call a GPU: resource names, node labels, images, system calls."""

from dataclasses import dataclass

from planner.export.launch import ExportError

AMD_PREFIX = "mi300x"
PRODUCTS = {
    "a100-sxm-40gb": "NVIDIA-A100-SXM4-40GB",
    "a100-sxm-80gb": "NVIDIA-A100-SXM4-80GB",
    "h100-sxm-80gb": "NVIDIA-H100-80GB-HBM3",
    "h100-pcie-80gb": "NVIDIA-H100-PCIe",
    "h200-sxm-141gb": "NVIDIA-H200",
    "b200-sxm-180gb": "NVIDIA-B200",
    "l4-24gb": "NVIDIA-L4",
    "l40s-48gb": "NVIDIA-L40S",
    "a10g-24gb": "NVIDIA-A10G",
    "rtx-pro-6000-96gb": "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
    "v100-sxm-16gb": "Tesla-V100-SXM2-16GB",
    "v100-sxm-32gb": "Tesla-V100-SXM2-32GB",
    "mi300x-192gb": "AMD_Instinct_MI300X_OAM",
}
"""Node labels nvidia.com/gpu.product (GPU feature discovery) and amd.com/gpu.product-name (AMD's node labeller)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU: resource name, node label with its product name, vLLM's image and the system calls that it needs."""

    resource: str
    label: str
    product: str
    image: str
    seccomp: str
    amd: bool


def device_of(gpu: str, version: str) -> Device:
    """The device of a catalogue GPU, with the image of that vLLM version; ExportError for one without a node label."""
    product = PRODUCTS.get(gpu)
    if product is None:
        raise ExportError(f"{gpu}: its Kubernetes node label is not known; export to vllm instead.")
    tag = "v" + version + ".0" * (2 - version.count("."))
    if gpu.startswith(AMD_PREFIX):
        # ROCm maps memory between processes with calls that the default profile forbids.
        return Device(
            resource="amd.com/gpu",
            label="amd.com/gpu.product-name",
            product=product,
            image=f"vllm/vllm-openai-rocm:{tag}",
            seccomp="Unconfined",
            amd=True,
        )
    return Device(
        resource="nvidia.com/gpu",
        label="nvidia.com/gpu.product",
        product=product,
        image=f"vllm/vllm-openai:{tag}",
        seccomp="RuntimeDefault",
        amd=False,
    )
