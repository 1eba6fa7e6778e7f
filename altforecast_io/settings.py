"""The one typed Settings object and the only place that reads the environment.

What belongs here: every variable with its old names, type, default and meaning. What does not: numbers that change
results (`altforecast.params`) and settings that change while running (`store.settings`).
"""

from __future__ import annotations

import os
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AliasChoices, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from altforecast.errors import SettingsError
from altforecast.symbols import DEFAULT_TV_BTC_SYMBOL, RESERVE_VENUES, VENUES, parse_symbol, parse_timeframe, parse_venue
from altforecast_io.realtime_settings import RealtimeSettings
from altforecast_io.setting_values import URL_SCHEMES, Positive, Words, mask_url, networks, number, own, var, words

PUMPPORTAL_DOCUMENTATION_URL = "pumpportal.fun/data-api/real-time"


class Settings(RealtimeSettings):
    """Effective settings of one process; build with `Settings.load()` at the entry point and pass down."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, populate_by_name=True)

    # where and as what we run
    base: Path = var(Path("./var"), "ALTFORECAST_HOME", "DATA_DIR", description="folder of all data")
    environment: Literal["live", "sandbox"] = var("live", "ALTFORECAST_ENVIRONMENT", description="live or sandbox data")
    host: str = var("127.0.0.1", "ALTFORECAST_HOST", "HOST", description="address to listen on (IPv4)")
    port: int = var(8000, "PORT", "ALTFORECAST_PORT", ge=1, le=65535, description="port of the API and dashboard")
    dagster_port: int = var(3000, "DAGSTER_PORT", ge=1, le=65535, description="port of the Dagster UI")
    mlflow_port: int = var(5000, "MLFLOW_PORT", ge=1, le=65535, description="port of the MLflow UI of `make mlflow`")
    public_base_url: str = var("", "PUBLIC_BASE_URL", description="address that people use, for links; empty means no links")
    timezone: str = var("Europe/Amsterdam", "TZ", description="time zone shown to people; stores are UTC")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = var("INFO", "LOG_LEVEL", description="least severe level logged")
    log_dir_override: Path | None = var(None, "LOGS_DIR", description="folder of log files; default <home>/logs")
    charts_dir_override: Path | None = var(None, "CHARTS_DIR", description="folder of rendered charts; default <home>/charts")
    models_dir_override: Path | None = var(None, "MODELS_DIR", description="folder of models; default <home>/models")

    # stores
    database_url_override: str = var(
        "", "DATABASE_URL", "DATABASE_PATH", "DB_PATH", "DB_DSN", description="operational store: SQLite path or PostgreSQL DSN"
    )
    redis_url: str = var("", "REDIS_URL", description="event bus on Redis; empty means in-process")
    mlflow_uri_override: str = var(
        "", "MLFLOW_TRACKING_URI", description="model registry: sqlite:///, postgresql:// or an MLflow server; empty means a file in <home>"
    )
    challenger_family: Literal["none", "catboost"] = var(
        "none", "CHALLENGER_FAMILY", description="a second family of models trained beside LightGBM; catboost needs `make setup-catboost`"
    )
    dagster_postgres_url: str = var("", "DAGSTER_POSTGRES_URL", description="Dagster's own PostgreSQL database; empty means SQLite")
    celery_broker_url: str = var("", "CELERY_BROKER_URL", description="broker of the Celery run launcher; empty means none")
    sqlite_vacuum_threshold_mb: Positive = var(100, "SQLITE_VACUUM_THRESHOLD_MB", description="VACUUM above this file size [MB]")
    sqlite_analyze_rows_changed: Positive = var(1000, "SQLITE_ANALYZE_ROWS_CHANGED", description="ANALYZE after this many changed rows")

    # TradingView
    secret_webhook_token: SecretStr | None = var(None, "SECRET_WEBHOOK_TOKEN", description="secret of TradingView alerts")
    tv_btc_symbol: str = var(DEFAULT_TV_BTC_SYMBOL, "TV_BTC_SYMBOL", description="TradingView symbol that carries BTC")
    webhook_allowed_ips: Words = var((), "WEBHOOK_ALLOWED_IPS", description="source addresses allowed to post alerts; empty allows all")
    trusted_proxies: Words = var((), "TRUSTED_PROXIES", description="proxies whose X-Forwarded-For is believed")
    webhook_max_bytes: Positive = var(8192, "WEBHOOK_MAX_BYTES", description="largest alert body [bytes]")
    webhook_early_ms: int = var(5000, "WEBHOOK_EARLY_MS", ge=0, le=60_000, description="how early a bar may be reported closed [ms]")
    inbox_queue_rows: Positive = var(4096, "INBOX_QUEUE_ROWS", description="alerts waiting for a commit; full answers 503")

    # markets
    exchange: str = var("gate", "EXCHANGE", description="trading venue; old names such as gateio are accepted")
    bars_exchange: str = var("binance", "BARS_EXCHANGE", description="venue whose bars are fetched on schedule")
    tracked_symbols: Words = var(
        ("BTC-USDT", "ETH-USDT", "SOL-USDT", "ETH-BTC"), "TRACKED_SYMBOLS", description="symbols fetched on schedule, comma separated"
    )
    symbol: str = var("BTC-USDT", "SYMBOL", description="default symbol")
    timeframe: str = var("15m", "TIMEFRAME", description="default timeframe")
    exchange_base_urls_text: str = var("", "EXCHANGE_BASE_URLS", description="stand-in addresses, venue=url comma separated")
    fetch_exchange_bars: bool = var(True, "FETCH_EXCHANGE_BARS", description="fetch exchange bars on schedule")

    # outside context
    coingecko_api_key: SecretStr | None = var(None, "COINGECKO_API_KEY", description="optional CoinGecko key")
    coinglass_api_key: SecretStr | None = var(None, "COINGLASS_API_KEY", description="optional CoinGlass key")
    context_enable: bool = var(True, "CONTEXT_ENABLE", description="fetch market context")
    context_cache_ttl_sec: Positive = var(300, "CONTEXT_CACHE_TTL_SEC", description="life of cached context [s]")
    context_http_timeout_sec: float = var(2.0, "CONTEXT_HTTP_TIMEOUT_SEC", gt=0, le=60, description="timeout of context calls [s]")
    context_btc_dominance_url: str = var(
        "https://api.coingecko.com/api/v3/global", "CONTEXT_BTC_DOMINANCE_URL", description="CoinGecko global endpoint"
    )
    context_fear_greed_url: str = var(
        "https://api.alternative.me/fng/?limit=1", "CONTEXT_FEAR_GREED_URL", description="Fear & Greed endpoint"
    )
    context_dxy_url: str = var("", "CONTEXT_DXY_URL", description='endpoint answering {"value": number}; empty means none')

    # people
    telegram_bot_token: SecretStr | None = var(None, "TELEGRAM_BOT_TOKEN", description="Telegram bot")
    admin_chat_id: int | None = var(None, "ADMIN_CHAT_ID", description="Telegram chat of the operator")
    telegram_webhook_secret: SecretStr | None = var(
        None, "TELEGRAM_WEBHOOK_SECRET", "TELEGRAM_SECRET_TOKEN", description="secret header of Telegram calls"
    )

    # trading
    mode: Literal["paper", "live", "backtest"] = var("paper", "MODE", description="broker: paper, live or backtest")
    degradation_level: Literal["full", "no_market_context"] = var("full", "DEGRADATION_LEVEL", description="what may be missing")
    enable_trading: bool = var(True, "ENABLE_TRADING", description="allow orders; live orders also need MODE=live")
    position_size: Decimal = var(Decimal(10), "POSITION_SIZE", gt=0, description="order size [quote]")
    max_drawdown_frac: float = var(0.2, "MAX_DRAWDOWN_PCT", gt=0, le=1, description="halt at this drawdown (fraction)")
    stop_loss_frac: float = var(0.03, "STOP_LOSS_PCT", gt=0, le=1, description="stop loss (fraction)")
    max_positions: Positive = var(1, "MAX_POSITIONS", description="open positions allowed")
    max_time_drift_ms: Positive = var(1000, "MAX_TIME_DRIFT_MS", description="clock drift that blocks orders [ms]")
    gateio_api_key: SecretStr | None = var(None, "GATEIO_API_KEY", description="Gate key")
    gateio_api_secret: SecretStr | None = var(None, "GATEIO_API_SECRET", description="Gate secret")
    gateio_password: SecretStr | None = var(None, "GATEIO_PASSWORD", description="unused by Gate; accepted because old setups set it")

    # limits and budgets
    rate_limit_per_minute: Positive = var(6000, "RATE_LIMIT_PER_MINUTE", description="API requests per key or address and minute")
    rate_limit_orders_per_minute: Positive = var(10, "RATE_LIMIT_ORDERS_PER_MINUTE", description="orders per minute")
    rate_limit_evaluate_per_minute: Positive = var(60, "RATE_LIMIT_EVALUATE_PER_MINUTE", description="evaluations per minute")
    rate_limit_market_context_per_hour: Positive = var(100, "RATE_LIMIT_MARKET_CONTEXT_PER_HOUR", description="context calls per hour")
    perf_budget_decision_p99_ms: int = var(500, "PERF_BUDGET_DECISION_P99_MS", ge=0, description="p99 budget of a decision [ms], 0 off")
    perf_budget_order_p99_ms: int = var(1000, "PERF_BUDGET_ORDER_P99_MS", ge=0, description="p99 budget of an order [ms], 0 off")
    perf_budget_flow_p99_ms: int = var(0, "PERF_BUDGET_FLOW_P99_MS", ge=0, description="p99 budget of the whole flow [ms], 0 off")
    perf_budget_decide_p99_sec: float | None = var(None, "PERF_BUDGET_DECIDE_P99", ge=0, description="old name, in seconds")
    perf_budget_order_p99_sec: float | None = var(None, "PERF_BUDGET_ORDER_P99", ge=0, description="old name, in seconds")
    bus_dlq_max: Positive = var(1000, "BUS_DLQ_MAX", description="dead letters kept")
    backtest_metrics_path: Path = var(
        Path("backtest_metrics.json"), "BACKTEST_METRICS_PATH", description="file that backtest gauges are read from"
    )
    api_requires_key: bool = var(False, "API_REQUIRES_KEY", description="reading routes need an API key too")

    # tokens
    birdeye_api_key: SecretStr | None = var(None, "BIRDEYE_API_KEY", description="Birdeye key")
    birdeye_cache_ttl_sec: Positive = var(30, "BIRDEYE_CACHE_TTL", description="life of cached Birdeye answers [s]")
    pumpportal_ws_url: str = var("wss://pumpportal.fun/api/data", "PUMPPORTAL_WS_URL", description="PumpPortal socket")
    ext_max_concurrency: int = var(5, "EXT_MAX_CONCURRENCY", ge=1, le=100, description="outside calls at once")
    sched_interval_initial_sec: Positive = var(30, "SCHED_INTERVAL_INITIAL_SEC", description="cadence for new tokens [s]")
    sched_interval_active_sec: Positive = var(30, "SCHED_INTERVAL_ACTIVE_SEC", description="cadence for active tokens [s]")

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read `.env` and the environment; `overrides` (field names) win. Raises SettingsError: one line per wrong variable."""
        contradictions(os.environ)
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise SettingsError("; ".join(_line(cls, e) for e in error.errors())) from None

    # ---- derived

    @property
    def home(self) -> Path:
        """Folder of this environment's data: sandbox data live in a folder of their own."""
        return self.base / "sandbox" if self.environment == "sandbox" else self.base

    @property
    def lake_dir(self) -> Path:
        """Folder of the lake."""
        return self.home / "lake"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME of this environment."""
        return (self.home / "dagster").resolve()

    @property
    def log_dir(self) -> Path:
        """Folder of log files."""
        return self.log_dir_override or self.home / "logs"

    @property
    def charts_dir(self) -> Path:
        """Folder of rendered charts."""
        return self.charts_dir_override or self.home / "charts"

    @property
    def models_dir(self) -> Path:
        """Folder of model files."""
        return self.models_dir_override or self.home / "models"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the operational store."""
        value = self.database_url_override
        if "://" in value:
            return value.replace("postgres://", "postgresql://", 1) if value.startswith("postgres://") else value
        path = Path(value) if value else self.home / "store" / "altforecast.sqlite"
        return f"sqlite:///{path}"

    @property
    def mlflow_dir(self) -> Path:
        """Folder of MLflow's own database and artifacts; made by the first registration, not at start."""
        return (self.home / "mlflow").resolve()

    @property
    def mlflow_uri(self) -> str:
        """Backend of the model registry; a PostgreSQL one names the driver that is installed."""
        given = self.mlflow_uri_override.replace("postgresql://", "postgresql+psycopg2://", 1)
        return given or f"sqlite:///{self.mlflow_dir / 'mlflow.db'}"

    @property
    def exchange_base_urls(self) -> dict[str, str]:
        """Stand-in address per venue slug; empty for the real ones."""
        pairs = (p.partition("=") for p in self.exchange_base_urls_text.split(",") if p.strip())
        return {parse_venue(venue): url.strip() for venue, _, url in pairs}

    @property
    def folders(self) -> tuple[Path, ...]:
        """Working folders that are made at start."""
        return (self.home, self.lake_dir, self.dagster_home, self.log_dir, self.charts_dir, self.models_dir, self.home / "store")

    def make_folders(self) -> None:
        """Create all working folders; raises SettingsError when one cannot be made."""
        for folder in self.folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SettingsError(f"ALTFORECAST_HOME: cannot create {folder}: {error.strerror}") from error

    @property
    def decision_budget_ms(self) -> int:
        """p99 budget of a decision [ms]; the old variable in seconds is used where only it is set."""
        seconds = self.perf_budget_decide_p99_sec
        return self.perf_budget_decision_p99_ms if seconds is None else round(seconds * 1000)

    @property
    def order_budget_ms(self) -> int:
        """p99 budget of an order [ms]; the old variable in seconds is used where only it is set."""
        seconds = self.perf_budget_order_p99_sec
        return self.perf_budget_order_p99_ms if seconds is None else round(seconds * 1000)

    # ---- validation

    @field_validator("webhook_allowed_ips", "trusted_proxies", "tracked_symbols", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return words(value)

    @field_validator("secret_webhook_token", "telegram_bot_token", "coingecko_api_key", "admin_chat_id", "gateio_password", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("webhook_allowed_ips", "trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return networks(value)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("exchange", "bars_exchange")
    @classmethod
    def _venue(cls, value: str) -> str:
        venue = own(parse_venue, value)
        if venue not in (*VENUES, *RESERVE_VENUES):
            raise ValueError(f"unknown venue; allowed: {', '.join((*VENUES, *RESERVE_VENUES))}")
        return venue

    @field_validator("redis_url", "celery_broker_url", "dagster_postgres_url", "public_base_url", "context_dxy_url", "mlflow_uri_override")
    @classmethod
    def _url(cls, value: str, info: ValidationInfo) -> str:
        schemes = URL_SCHEMES[str(info.field_name)]
        if value and not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    @field_validator("exchange_base_urls_text")
    @classmethod
    def _venue_urls(cls, value: str) -> str:
        for part in filter(None, (p.strip() for p in value.split(","))):
            venue, _, url = part.partition("=")
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{part!r} is not venue=http://...")
            own(parse_venue, venue)
        return value

    @field_validator("symbol")
    @classmethod
    def _symbol(cls, value: str) -> str:
        return own(parse_symbol, value)

    @field_validator("tracked_symbols")
    @classmethod
    def _symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(own(parse_symbol, v) for v in value)

    @field_validator("timeframe")
    @classmethod
    def _timeframe(cls, value: str) -> str:
        return own(lambda text: parse_timeframe(text).value, value)

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("not an IANA time zone such as Europe/Amsterdam") from None
        return value

    @field_validator("tv_btc_symbol")
    @classmethod
    def _tv_symbol(cls, value: str) -> str:
        exchange, colon, ticker = value.partition(":")
        if not colon:
            raise ValueError("must look like EXCHANGE:TICKER, for example BINANCE:BTCUSDT")
        own(parse_venue, exchange)
        own(parse_symbol, ticker)
        return value

    @field_validator("pumpportal_ws_url")
    @classmethod
    def _socket(cls, value: str) -> str:
        if PUMPPORTAL_DOCUMENTATION_URL in value:
            raise ValueError("this is the documentation page; the socket is wss://pumpportal.fun/api/data")
        if not value.startswith(("ws://", "wss://")):
            raise ValueError("must begin with ws:// or wss://")
        return value

    @field_validator("database_url_override")
    @classmethod
    def _database(cls, value: str) -> str:
        allowed = ("sqlite:///", "postgresql://", "postgresql+psycopg2://", "postgres://")
        if "://" in value and not value.startswith(allowed):
            raise ValueError("must be a file path, sqlite:///..., or postgresql://...")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.mode == "live" and self.environment == "sandbox":
            raise ValueError("MODE=live cannot be used with ALTFORECAST_ENVIRONMENT=sandbox")
        if self.challenger_family != "none" and find_spec(self.challenger_family) is None:
            name = self.challenger_family
            raise ValueError(f"CHALLENGER_FAMILY={name} needs the extra {name}, which is not installed: make setup-{name}")
        return self


MLFLOW_LIMITS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
"""By itself MLflow waits for minutes, reports its use to its makers, prints among our JSON and starts seven processes beside its UI."""


def export_to_mlflow(**more: str) -> None:
    """Put MLFLOW_LIMITS (where not set otherwise) and `more` into the environment, which is all that MLflow reads; call before importing
    it."""
    for name, value in MLFLOW_LIMITS.items():
        os.environ.setdefault(name, value)
    os.environ.update(more)


def _line(cls: type[Settings], error: Any) -> str:
    field = str(error["loc"][0]) if error["loc"] else ""
    info = cls.model_fields.get(field)
    variable = field
    if info is None:
        variable = field or "settings"
    elif isinstance(info.validation_alias, AliasChoices):
        variable = str(info.validation_alias.choices[0])
    is_secret = info is not None and "Secret" in str(info.annotation)
    shown = "" if not error["loc"] else f", got {'***' if is_secret else repr(mask_url(str(error['input'])))}"
    return f"{variable}: {error['msg'].removeprefix('Value error, ')}{shown}"


TEST_VARIABLES = ("ALTFORECAST_REAL_DATA", "ALTFORECAST_SCREENSHOTS")
_BUDGETS = (("PERF_BUDGET_DECISION_P99_MS", "PERF_BUDGET_DECIDE_P99"), ("PERF_BUDGET_ORDER_P99_MS", "PERF_BUDGET_ORDER_P99"))


def _known_variables() -> set[str]:
    aliases = (info.validation_alias for info in Settings.model_fields.values())
    return {str(c) for a in aliases if isinstance(a, AliasChoices) for c in a.choices} | set(TEST_VARIABLES)


def contradictions(environ: Any) -> None:
    """Raise SettingsError for two names of one variable with different values, or an unknown ALTFORECAST_ variable."""
    known = _known_variables()
    ours = sorted(name for name in known if name.startswith("ALTFORECAST_"))
    lines = [
        f"{name}: unknown variable; known: {', '.join(ours)}" for name in environ if name.startswith("ALTFORECAST_") and name not in known
    ]
    for milliseconds, seconds in _BUDGETS:
        budgets = (number(environ.get(milliseconds)), number(environ.get(seconds)))
        if budgets[0] is not None and budgets[1] is not None and budgets[0] != 1000 * budgets[1]:
            lines.append(f"{milliseconds} and {seconds} contradict each other: set only {milliseconds}")
    for info in Settings.model_fields.values():
        choices = info.validation_alias.choices if isinstance(info.validation_alias, AliasChoices) else []
        given = {str(c): environ[str(c)] for c in choices if environ.get(str(c))}
        if len(set(given.values())) > 1:
            lines.append(f"{' and '.join(given)} contradict each other: set only {next(iter(given))}")
    if lines:
        raise SettingsError("; ".join(lines))
