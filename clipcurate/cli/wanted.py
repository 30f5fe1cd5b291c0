"""Options that commands share as one value: a command names the value, `spread` the options."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any

from clipcurate.balancing.stability import StabilityRule
from clipcurate.cli import options as opt
from clipcurate.cli.submission import RunRequest, TrainRequest
from clipcurate.datasets.request import EmissionRequest, Kind
from clipcurate.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Target:
    """How much a balanced dataset keeps."""

    t: opt.Threshold = None
    size: opt.Size = None
    tail_share: opt.TailShare = None
    tail_rule: opt.TailRule = "positive"

    @property
    def given(self) -> list[str]:
        """Names of what says how much is kept."""
        return [name for name in ("t", "size", "tail_share") if getattr(self, name) is not None]

    def request(self, kind: Kind, semantics: str, group: str = "", **rest: Any) -> EmissionRequest:
        """Return the request for a dataset; only a balanced one has this target.

        Raises:
            InvalidInputError: it cannot be meant.
        """
        target = vars(self) if kind == "balanced" else {}
        given: dict[str, Any] = {**target, **rest, "semantics": semantics, "group": group or None}
        return EmissionRequest(kind, **given)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a run shall make of a pool, but for the target of its balanced dataset."""

    seed: opt.Seed = 0
    round: opt.Round = 0
    semantics: opt.TextSemantics = "pair"
    group: opt.Group = ""
    emit: opt.Emit = None
    rule: opt.Rule = "metaclip1"
    engine: opt.Engine = "token-trie"
    dedupe: opt.Dedupe = False
    dedup: opt.Dedup = ""
    text_column: opt.TextColumn = None
    url_column: opt.UrlColumn = None
    key_column: opt.KeyColumn = None
    uid_column: opt.UidColumn = None
    lang_column: opt.LangColumn = None
    identify_languages: opt.IdentifyLanguages = ""
    language_map: opt.LanguageMap = ""
    train: opt.Train = ""
    train_set: opt.TrainSet = None
    eval_url: opt.EvalUrl = ""
    task_rows: opt.TaskRows = 1_000_000
    order_seed: opt.OrderSeed = 0
    epsilon: opt.Epsilon = StabilityRule.epsilon
    windows: opt.StableWindows = StabilityRule.windows
    window: opt.WindowShare = StabilityRule.share
    announced_pairs: opt.AnnouncedPairs = 0
    freeze: opt.Freeze = "complete"
    part_bytes: opt.PartBytes = 0

    def emissions(self, target: Target) -> list[EmissionRequest]:
        """Return the datasets wanted. Raises InvalidInputError."""
        kinds = _kinds(self.emit)
        if "balanced" not in kinds and target.given:
            raise InvalidInputError("--t, --size and --tail-share go with --emit balanced")
        if "balanced" in kinds and not target.given:
            raise InvalidInputError(
                "a balanced dataset needs exactly one of --t, --size and --tail-share; `--emit "
                "none` counts first, then `clipcurate plan` compares"
            )
        if self.semantics != "pair" and not {"balanced", "matched"} & {*kinds}:
            raise InvalidInputError("--semantics goes with --emit balanced or matched")
        if self.group and self.semantics == "pair":
            raise InvalidInputError("--group goes with --semantics metaclip2 or record")
        rest: dict[str, Any] = {"seed": self.seed, "round": self.round}
        if self.part_bytes:
            rest["part_bytes"] = self.part_bytes
        return [
            target.request(kind, "pair", **rest)
            if kind == "raw"
            else target.request(kind, self.semantics, self.group, **rest)
            for kind in kinds
        ]

    def training(self) -> TrainRequest | None:
        """Return the training wanted, if any. Raises InvalidInputError."""
        return opt.train_request(self.train, self.train_set, self.eval_url)

    def run(self, pool: list[str], metadata: list[str], output: str) -> RunRequest:
        """Return the run wanted. Raises MetadataError, NotFoundError, PoolError."""
        return opt.run_request(
            pool,
            opt.columns_of(
                self.text_column,
                self.url_column,
                self.key_column,
                self.uid_column,
                self.lang_column,
            ),
            metadata,
            self.dedupe,
            output,
            self.identify_languages,
            self.language_map,
            rule=self.rule,
            engine=self.engine,
            task_rows=self.task_rows,
            order_seed=self.order_seed,
            dedup=self.dedup,
            stability=StabilityRule(self.epsilon, self.windows, self.window),
            announced_pairs=self.announced_pairs,
            freeze=self.freeze,
        )


def _kinds(emit: list[str] | None) -> list[Kind]:
    names = list(dict.fromkeys(emit or ["balanced"]))
    return [] if names == ["none"] else [_kind(name) for name in names]


def _kind(name: str) -> Kind:
    if name not in ("raw", "matched", "balanced"):
        raise InvalidInputError(
            f"--emit {name!r}: known are balanced, matched, raw, or none by itself"
        )
    return name  # type: ignore[return-value]


def _is_shared(parameter: inspect.Parameter) -> bool:
    return is_dataclass(parameter.annotation)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, in place of each parameter that is a dataclass, its fields as options."""
    mine = inspect.signature(command).parameters
    shared: dict[str, Any] = {n: p.annotation for n, p in mine.items() if _is_shared(p)}
    fields = {name: inspect.signature(kind).parameters for name, kind in shared.items()}

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        for name, kind in shared.items():
            given[name] = kind(**{field: given.pop(field) for field in fields[name]})
        command(**given)

    parameters: list[inspect.Parameter] = []
    for name, parameter in mine.items():
        own = fields[name].values() if name in fields else [parameter]
        parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return with_options
