"""Typed clients. Every call has a deadline; every failure is one of clipcurate's own errors."""

from clipcurate.rpc.clients.base import Client, open_channel
from clipcurate.rpc.clients.counter import CounterClient, LiveCounts, dense_chunks, hash_of_tasks
from clipcurate.rpc.clients.ledger import LedgerClient
from clipcurate.rpc.clients.matcher import MatcherClient
from clipcurate.rpc.clients.sampler import SamplerClient
from clipcurate.rpc.clients.trainer import TrainerClient

__all__ = [
    "Client",
    "CounterClient",
    "LedgerClient",
    "LiveCounts",
    "MatcherClient",
    "SamplerClient",
    "TrainerClient",
    "dense_chunks",
    "hash_of_tasks",
    "open_channel",
]
