"""Corrections of predicted step times by what was measured; later plans and estimates take them from a file."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from profiles.catalogue_files import Provenance, load_path
from profiles.engines import TermValues
from profiles.evidence import Evidence, EvidenceShares
from profiles.precision import Quantization
from profiles.step_table import StepTable


class CalibrationPart(BaseModel):
    """Base of the parts of a calibration: frozen, no unknown field, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Correction(CalibrationPart):
    """One deployment: every step takes `step_factor` times what was predicted, every request waits `request_s` longer
    (or less) before its first step. `requests`: how many it rests on.
    """

    gpu: str
    model_digest: str
    quantization: Quantization
    tp: PositiveInt
    pp: PositiveInt
    ep: PositiveInt
    step_factor: PositiveFloat = Field(ge=0.05, le=20.0)
    request_s: float = Field(ge=-60.0, le=60.0)
    requests: PositiveInt


class DeploymentTerms(CalibrationPart):
    """Engine terms of one model in one format on one GPU, in any parallelism. `runs`: how many they rest on."""

    gpu: str
    model_digest: str
    quantization: Quantization
    terms: TermValues
    runs: PositiveInt


class Calibration(CalibrationPart):
    """What measurements say of deployments of one engine: its terms from runs, corrections on top of them from checks.

    At least one of the two.
    """

    version: Literal[1] = 1
    engine: str
    terms: tuple[DeploymentTerms, ...] = ()
    corrections: tuple[Correction, ...] = ()
    sources: tuple[Provenance, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.terms and not self.corrections:
            raise ValueError("a calibration needs terms or corrections")
        return self


def load_calibration(path: Path) -> Calibration:
    """The calibration of a file; ProfileError when it cannot be read or does not fit."""
    return load_path(path, Calibration)


def find_correction(
    calibration: Calibration | None, gpu: str, digest: str, layout: tuple[Quantization, int, int, int]
) -> Correction | None:
    """The correction of an architecture on a GPU in (quantisation, tp, pp, ep), if there is one."""
    for one in calibration.corrections if calibration else ():
        if (one.gpu, one.model_digest) == (gpu, digest) and (one.quantization, one.tp, one.pp, one.ep) == layout:
            return one
    return None


def find_terms(calibration: Calibration | None, gpu: str, digest: str, quantization: Quantization) -> TermValues | None:
    """The engine terms of an architecture in one format on a GPU, if the calibration has them."""
    for one in calibration.terms if calibration else ():
        if (one.gpu, one.model_digest, one.quantization) == (gpu, digest, quantization):
            return one.terms
    return None


def corrected(table: StepTable, step_factor: float, request_s: float) -> StepTable:
    """The table with every step `step_factor` times as long and `request_s` more (not below 0) in the front end;
    its times count as fitted.
    """
    return replace(
        table,
        linear_s=table.linear_s * step_factor,
        decode_attention_s=table.decode_attention_s * step_factor,
        prefill_attention_s=table.prefill_attention_s * step_factor,
        sampling_s=table.sampling_s * step_factor,
        overhead_s=table.overhead_s * step_factor,
        prefill_floor_s=table.prefill_floor_s * step_factor,
        send_s_per_token=table.send_s_per_token * step_factor,
        front_end_request_s=max(0.0, table.front_end_request_s + request_s),
        component_evidence=tuple(
            EvidenceShares(seconds={Evidence.FITTED: sum(one.seconds.values())}) for one in table.component_evidence
        ),
    )
