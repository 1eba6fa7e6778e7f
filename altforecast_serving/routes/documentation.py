"""`/docs` and `/redoc`: the OpenAPI document as pages of our own.

What belongs here: two pages and their script and style, from this host alone. What does not: the OpenAPI document itself.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).resolve().parent.parent / "apidocs"
ASSETS = {"page.js": "text/javascript; charset=utf-8", "page.css": "text/css; charset=utf-8"}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'"
    ),
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><link rel="stylesheet" href="{root}/apidocs/page.css"></head>
<body data-openapi="{root}/openapi.json" data-root="{root}" data-try="{tries}"><main id="page"><p>Loading the API description…</p>
<noscript><p>This page needs JavaScript; the description itself is at <a href="{root}/openapi.json">openapi.json</a>.</p></noscript></main>
<script type="module" src="{root}/apidocs/page.js"></script></body></html>
"""


@router.get("/docs")
async def read_docs(request: Request) -> Response:
    """Every route, with a form to try it."""
    return _page(request, "AltForecast API", tries="yes")


@router.get("/redoc")
async def read_redoc(request: Request) -> Response:
    """The same as a reference to read."""
    return _page(request, "AltForecast API reference", tries="no")


@router.get("/apidocs/{name}")
async def read_asset(name: str) -> Response:
    """Script or style of these pages."""
    if name not in ASSETS:
        return Response(status_code=404)
    return Response((FOLDER / name).read_bytes(), headers={"Cache-Control": "no-cache"}, media_type=ASSETS[name])


def _page(request: Request, title: str, tries: str) -> Response:
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return Response(_PAGE.format(title=title, root=root, tries=tries), headers=HEADERS, media_type="text/html; charset=utf-8")
