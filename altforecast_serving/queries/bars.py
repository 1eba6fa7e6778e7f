"""Price bars for the outside: the lake's bars with the provisional ones of the inbox on top.

What belongs here: which provisional bars belong to a question. What does not: paging (`rows`), parameters (`routes.bars`).
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from altforecast.types import Series
from altforecast_serving.lineage import Answer
from altforecast_serving.queries.lake import LakeReader
from altforecast_serving.queries.rows import Question, find_rows, quick_rows
from altforecast_serving.queries.tail import Tail

STORE_LOST = "the operational store does not answer: provisional bars may be missing"


def find_bars(reader: LakeReader, tail: Tail, question: Question, metrics: dict[Series, str]) -> Answer:
    """The page of bars that the question asks for; reads files where memory does not reach."""
    return _noted(find_rows(reader, question, metrics, _provisional(tail, question)), tail)


def quick_bars(reader: LakeReader, tail: Tail, question: Question, metrics: dict[Series, str]) -> Answer | None:
    """The same page from memory alone, or None when memory does not reach."""
    answer = quick_rows(reader, question, metrics, _provisional(tail, question))
    return None if answer is None else _noted(answer, tail)


def _noted(answer: Answer, tail: Tail) -> Answer:
    return replace(answer, warnings=[*answer.warnings, STORE_LOST]) if tail.is_lost else answer


def _provisional(tail: Tail, question: Question) -> pl.DataFrame | None:
    """Provisional bars of the series in question, not yet cut to its bounds."""
    if not question.include_provisional:
        return None
    if question.series is None:
        frames = tail.matching(question.timeframes)
    else:
        frames = [f for tf in question.timeframes if (f := tail.of(question.series, tf)) is not None]
    return pl.concat(frames) if frames else None
