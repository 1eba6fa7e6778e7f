"""The dashboard's pages and their files; the pages read only the REST API.

What belongs here: serving HTML, styles and scripts. What does not: data (the pages fetch it from /api).
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.templating import Jinja2Templates

from altforecast import CODE_VERSION

WEB = Path(__file__).resolve().parent.parent / "web"
CHART_LIBRARY = "lightweight-charts.js"
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' ws: wss:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""No foreign host may be asked for anything; the chart library sets inline styles."""

router = APIRouter(include_in_schema=False)
templates = Jinja2Templates(directory=WEB / "templates")


def _page(request: Request, name: str, section: str | None = None) -> Response:
    """section: the entry of the navigation that the page belongs to, where it is not its own."""
    settings = request.app.state.settings
    values = {"page": section or name, "environment": settings.environment, "zone": settings.timezone, "version": CODE_VERSION}
    response = templates.TemplateResponse(request, f"{name}.html", values)
    response.headers["Content-Security-Policy"] = CONTENT_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@router.get("/", response_class=HTMLResponse)
def overview(request: Request) -> Response:
    """Report lines, regime, active divergences and stream health."""
    return _page(request, "overview")


@router.get("/market", response_class=HTMLResponse)
def market(request: Request) -> Response:
    """One series as candles with divergences and levels, or as a table."""
    return _page(request, "market")


@router.get("/arbitrage", response_class=HTMLResponse)
def arbitrage(request: Request) -> Response:
    """Open opportunities, their curves, venue health, spreads and what closed lately."""
    return _page(request, "arbitrage")


@router.get("/forecasts", response_class=HTMLResponse)
def forecasts(request: Request) -> Response:
    """The newest forecast of every symbol and horizon, and what such forecasts were worth."""
    return _page(request, "forecasts")


@router.get("/forecasts/{symbol}", response_class=HTMLResponse)
def forecast(request: Request) -> Response:
    """One symbol: what is ahead, calibration, skill and every past forecast; whether it exists is the API's to say."""
    return _page(request, "forecast", "forecasts")


@router.get("/models", response_class=HTMLResponse)
def models(request: Request) -> Response:
    """Who answers for each horizon, what was trained, promoted, rejected and rolled back."""
    return _page(request, "models")


@router.get("/models/{version}", response_class=HTMLResponse)
def model(request: Request) -> Response:
    """The card of one model; whether it exists is the API's to say."""
    return _page(request, "model", "models")


@router.get("/favicon.ico")
def favicon() -> FileResponse:
    """The icon under the name that browsers ask for by themselves."""
    return FileResponse(WEB / "static" / "icon.svg", media_type="image/svg+xml")


@router.get(f"/static/{CHART_LIBRARY}")
def chart_library() -> FileResponse:
    """The chart library out of its installed package; nothing is copied into this repository."""
    path = Path(str(resources.files("litecharts") / "js" / CHART_LIBRARY))
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "public, max-age=604800"})
