"""Whatever is deployed, more work never takes less time."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from profiles.engines import load_engine
from profiles.errors import ProfileError
from profiles.gpus import gpu_names, load_gpu
from profiles.models import load_model, model_names
from profiles.precision import KvDtype, Quantization
from profiles.step_table import StepTable
from profiles.step_time import Deployment, tabulate_step

EPSILON = 1e-15


def arrays_of(table: StepTable) -> list[np.ndarray]:
    """Every table of seconds."""
    return [table.linear_s, table.decode_attention_s, table.prefill_attention_s, table.sampling_s]


@settings(max_examples=60)
@given(
    model=st.sampled_from(model_names()),
    gpu=st.sampled_from(gpu_names()),
    quantization=st.sampled_from(list(Quantization)),
    kv_dtype=st.sampled_from(list(KvDtype)),
    tp=st.sampled_from([1, 2, 4, 8, 16]),
    pp=st.sampled_from([1, 2, 3]),
    ep=st.sampled_from([1, 2, 8, 16]),
    max_tokens=st.sampled_from([1, 7, 512, 2048]),
)
def test_tables_never_fall(
    model: str,
    gpu: str,
    quantization: Quantization,
    kv_dtype: KvDtype,
    tp: int,
    pp: int,
    ep: int,
    max_tokens: int,
) -> None:
    try:
        table = tabulate_step(
            Deployment(
                model=load_model(model),
                gpu=load_gpu(gpu),
                engine=load_engine("vllm"),
                quantization=quantization,
                kv_dtype=kv_dtype,
                tp=tp,
                pp=pp,
                ep=ep,
                max_tokens=max_tokens,
            )
        )
    except ProfileError:
        assume(False)
        raise
    for values in arrays_of(table):
        assert np.isfinite(values).all() and (values >= 0).all()
        for axis in range(values.ndim):
            assert (np.diff(values, axis=axis) >= -EPSILON).all()
    assert (table.decode_attention_s > 0).all() and (table.linear_s > 0).all()
