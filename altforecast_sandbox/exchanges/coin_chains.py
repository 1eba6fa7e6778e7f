"""Withdrawal networks of the sandbox's coins, in the spelling of the venues that tell them without a key.

What belongs here: invented fees and states, three venues' shapes. What does not: markets and candles.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Chain(NamedTuple):
    """One coin on one network; fee and least withdrawal in coins."""

    coin: str
    network: str
    fee: str
    least: str
    contract: str = ""
    is_open: bool = True


CHAINS = (
    Chain("BTC", "BTC", "0.0001", "0.001"),
    Chain("ETH", "ERC20", "0.002", "0.01"),
    Chain("SOL", "SOL", "0.008", "0.1"),
    Chain("XRP", "XRP", "0.2", "20"),
    Chain("DOGE", "DOGE", "4", "10"),
    Chain("LTC", "LTC", "0.001", "0.01"),
    Chain("LINK", "ERC20", "0.3", "1", "0x514910771af9ca656af840dff83e8264ecf986ca"),
    Chain("USDT", "TRC20", "1", "10", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"),
    Chain("USDT", "ERC20", "3", "10", "0xdac17f958d2ee523a2206206994597c13d831ec7"),
    Chain("USDC", "ERC20", "3", "10", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"),
)
SUSPENDED = {"kucoin": "LTC", "htx": "DOGE", "bitget": "SOL"}
"""One coin per venue that can be neither withdrawn nor deposited."""
TWINS = {"kucoin": "0x1111111111111111111111111111111111111111", "bitget": "0x2222222222222222222222222222222222222222"}
"""TWIN is two different coins under one ticker: its contract on each venue."""


def chains_of(venue: str) -> list[Chain]:
    """What a venue offers."""
    rows = [chain._replace(is_open=chain.coin != SUSPENDED[venue]) for chain in CHAINS]
    return [*rows, Chain("TWIN", "ERC20", "5", "10", TWINS[venue])] if venue in TWINS else rows


def _by_coin(venue: str) -> dict[str, list[Chain]]:
    found: dict[str, list[Chain]] = {}
    for chain in chains_of(venue):
        found.setdefault(chain.coin, []).append(chain)
    return found


def kucoin_currencies() -> list[dict[str, Any]]:
    """`data` of KuCoin's currencies."""
    return [
        {
            "currency": coin, "name": coin, "fullName": coin, "precision": 8, "confirms": None, "contractAddress": None,
            "isMarginEnabled": False, "isDebitEnabled": False,
            "chains": [
                {
                    "chainName": c.network, "chainId": c.network.lower(), "withdrawalMinSize": c.least, "depositMinSize": None,
                    "withdrawFeeRate": "0", "withdrawalMinFee": c.fee, "isWithdrawEnabled": c.is_open, "isDepositEnabled": c.is_open,
                    "confirms": 12, "preConfirms": 12, "contractAddress": c.contract, "withdrawPrecision": 8, "maxWithdraw": None,
                    "maxDeposit": None, "needTag": False,
                }
                for c in chains
            ],
        }
        for coin, chains in _by_coin("kucoin").items()
    ]  # fmt: skip


def htx_currencies() -> list[dict[str, Any]]:
    """`data` of HTX's reference currencies; it prints no contracts."""
    state = {True: "allowed", False: "prohibited"}
    return [
        {
            "currency": coin.lower(), "assetType": "1", "instStatus": "normal",
            "chains": [
                {
                    "chain": f"{c.network}{coin}".lower() if c.network.endswith("20") else coin.lower(), "displayName": c.network,
                    "baseChain": c.network, "baseChainProtocol": c.network, "isDynamic": False, "numOfConfirmations": "12",
                    "numOfFastConfirmations": "12", "depositStatus": state[c.is_open], "minDepositAmt": "0.0001",
                    "withdrawStatus": state[c.is_open], "minWithdrawAmt": c.least, "withdrawPrecision": "8",
                    "maxWithdrawAmt": "1000000", "withdrawFeeType": "fixed", "transactFeeWithdraw": c.fee, "addrWithTag": False,
                    "addrDepositTag": False,
                }
                for c in chains
            ],
        }
        for coin, chains in _by_coin("htx").items()
    ]  # fmt: skip


def bitget_coins() -> list[dict[str, Any]]:
    """`data` of Bitget's coins."""
    word = {True: "true", False: "false"}
    return [
        {
            "coinId": str(number), "coin": coin, "transfer": "true", "areaCoin": "no",
            "chains": [
                {
                    "chain": c.network, "needTag": "false", "withdrawable": word[c.is_open], "rechargeable": word[c.is_open],
                    "withdrawFee": c.fee, "extraWithdrawFee": "0", "depositConfirm": "12", "withdrawConfirm": "64",
                    "minDepositAmount": "0.0001", "minWithdrawAmount": c.least, "browserUrl": "", "contractAddress": c.contract or None,
                    "withdrawStep": "0", "withdrawMinScale": "8", "congestion": "normal",
                }
                for c in chains
            ],
        }
        for number, (coin, chains) in enumerate(_by_coin("bitget").items(), 1)
    ]  # fmt: skip
