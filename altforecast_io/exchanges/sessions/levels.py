"""Levels as venues write them, typed for a decoder that reads texts straight into floats.

What belongs here: types of a level. What does not: frames of any venue.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Price = Annotated[float, msgspec.Meta(gt=0, lt=1e18)]
"""A price above 0 [quote]; with `strict=False` its text form too. NaN and infinite numbers are refused."""
Size = Annotated[float, msgspec.Meta(ge=0, lt=1e18)]
"""A size [base], 0 where the level is gone."""
Pair = tuple[Price, Size]
"""`["61837.63", "0.5"]` or `[61837.63, 0.5]`."""
