"""What a network's file says of its use and no call needs. It stays with the network, and with what ``save`` writes."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from lstmkernel.certificate import Certificate

#: What ``load`` says of a network whose model gives something else than every step of ``out``, in the order of x.
GIVES = {
    "last step": "the model gives only the last step: net.last(x) gives that, net(x) gives every step",
    "first step": "the model gives only the first step of out, where it ends in reverse: net(x) gives every step",
    "last states": "the model gives only the last states: h_n in what net(x) returns has them; out has every step",
    "reverse": "the model gives the steps in reverse: out has them in the order of x",
    "a part": "the model gives only a part of the output: net(x) gives all of it, at every step",
}


class Notes(NamedTuple):
    """Entries of ``LSTM.config()``."""

    gives: str | None = None  # a key of GIVES; None where the model gives ``out``
    sample_rate: float | None = None  # Hz, of the sound that the network was made for
    sound: bool | None = None  # True for a network that was made for sound, also of a rate that its file does not say
    #: A Certificate of the network, or of a chain whose first network it is; plain values until they are checked.
    certificate: Any = None

    def checked(self) -> Notes:
        """The same, the rate as a float, the certificate as such; ValueError for what they cannot be."""
        gives, rate, sound, certificate = self
        if not (certificate is None or isinstance(certificate, Certificate)):
            certificate = Certificate.from_dict(certificate)
        if gives is not None and not (isinstance(gives, str) and gives in GIVES):
            raise ValueError(f"gives: expected {', '.join(map(repr, GIVES))} or None, got {repr(gives)[:100]}")
        if sound not in (None, True, False):
            raise ValueError(f"sound: expected True, False or None, got {repr(sound)[:100]}")
        if rate is None:
            return Notes(gives, None, sound, certificate)
        if isinstance(rate, bool) or not (isinstance(rate, int | float) and 0 < rate <= sys.float_info.max):
            raise ValueError(f"sample_rate: expected a number of Hz or None, got {repr(rate)[:100]}")
        return Notes(gives, float(rate), sound, certificate)

    def given(self) -> dict[str, Any]:
        """Those that are not None, as plain values."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        return {**given, **({"certificate": self.certificate.to_dict()} if self.certificate else {})}
