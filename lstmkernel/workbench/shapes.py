"""The shapes of real networks. ``lstmkernel compare`` and bench/ measure this one list."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """The sizes of a network and of one call to it."""

    name: str
    B: int
    T: int
    I: int
    H: int
    L: int
    D: int
    origin: str

    def sizes(self) -> str:
        """In the form that ``parse`` reads: "1,512,128,128", then L and D where they are not 1."""
        numbers = self[1:5] if self.L == self.D == 1 else self[1:6] if self.D == 1 else self[1:7]
        return ",".join(map(str, numbers))


#: name, B, T, I, H, L, D and origin; in the order of batch, then of size.
GRID = (
    Shape("silero_step", 1, 1, 128, 128, 1, 1, "Silero VAD"),
    Shape("dtln_step", 1, 1, 257, 128, 2, 1, "DTLN denoiser"),
    Shape("trade3x256_step", 1, 1, 256, 256, 3, 1, "trading, one tick"),
    Shape("rnnt_pred_step", 1, 1, 640, 640, 2, 1, "RNN-T speech"),
    Shape("trade3x960_step", 1, 1, 960, 960, 3, 1, "trading, one tick"),
    Shape("nam_h16", 1, 2048, 1, 16, 1, 1, "guitar amp, NAM"),
    Shape("proteus_h40", 1, 2048, 1, 40, 1, 1, "guitar amp"),
    Shape("onednn837", 1, 63, 24, 32, 1, 2, "oneDNN issue 837"),
    Shape("silero_block", 1, 512, 128, 128, 1, 1, "Silero VAD, 16 s"),
    Shape("openunmix", 1, 255, 512, 256, 3, 2, "music separation"),
    Shape("mxnet_4x320", 1, 200, 40, 320, 4, 2, "MXNet benchmark"),
    Shape("mlperf_rnnt", 1, 100, 1024, 1024, 2, 1, "MLPerf RNN-T"),
    Shape("ppo_8envs_step", 8, 1, 64, 256, 1, 1, "PPO policy"),
    Shape("torch81634", 8, 500, 256, 256, 2, 1, "PyTorch issue 81634"),
    Shape("resemblyzer", 8, 160, 40, 256, 3, 1, "speaker embedding"),
    Shape("pyannote", 32, 147, 60, 128, 4, 2, "speaker turns"),
    Shape("telemanom", 70, 250, 25, 80, 2, 1, "telemetry"),
    Shape("hydrology", 256, 365, 15, 20, 1, 1, "rain to runoff"),
    Shape("deepar_step", 3200, 1, 45, 40, 2, 1, "DeepAR forecast"),
    Shape("bonito_5x1024", 32, 50, 1024, 1024, 5, 1, "DNA basecaller"),
)

BY_NAME = {shape.name: shape for shape in GRID}

#: The shapes that ``lstmkernel compare`` measures by default: small and large ones, and no call takes over a second.
DEFAULT = tuple(
    BY_NAME[name]
    for name in (
        "silero_step",
        "rnnt_pred_step",
        "nam_h16",
        "proteus_h40",
        "silero_block",
        "ppo_8envs_step",
        "pyannote",
        "hydrology",
        "deepar_step",
    )
)


def parse(text: str) -> Shape:
    """A name of GRID, or "B,T,I,H[,L[,D]]"."""
    if text in BY_NAME:
        return BY_NAME[text]
    numbers = text.split(",")
    if not (4 <= len(numbers) <= 6 and all(number.isdecimal() and int(number) > 0 for number in numbers)):
        raise ValueError(f"expected B,T,I,H[,L[,D]] in whole numbers, or one of {', '.join(BY_NAME)}; got {text!r}")
    B, T, I, H, L, D = (int(number) for number in [*numbers, "1", "1"][:6])
    if D > 2:
        raise ValueError(f"expected 1 or 2 directions D, got {D} in {text!r}")
    return Shape(text, B, T, I, H, L, D, "as asked")
