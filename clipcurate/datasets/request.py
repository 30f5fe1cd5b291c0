"""What is asked of an emission, and what of that identifies the dataset."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from clipcurate.balancing import SEMANTICS, TAIL_RULES, Semantics, TailRule
from clipcurate.errors import InvalidInputError

Kind = Literal["raw", "matched", "balanced"]
KINDS: tuple[Kind, ...] = ("raw", "matched", "balanced")
ImageName = Literal["url", "image"]
"""What names an image: its url, or its image key."""
GROUPS: tuple[ImageName, ...] = ("url", "image")
FORMAT = 1
PART_BYTES = 256 << 20
"""Default size of a part, counted in bytes of pool rows."""

BASE_TAIL_SHARE = 0.06
"""What the paper's t = 20,000 leaves in the tail, and Meta CLIP 2 keeps in every language."""

IMAGES_OF_TASKS = 5
"""Images per partition, as a multiple of those of a task: 5 million of 56 bytes, 1 GB in memory."""

_LIMITS = {"seed": 1 << 64, "round": 1 << 32, "part_bytes": 1 << 63}


@dataclass(frozen=True)
class EmissionRequest:
    """What determines a dataset, given a run's snapshot.

    Attributes:
        kind: raw (every readable pair), matched (at least one hit), balanced.
        t, size, tail_share: exactly one of them for balanced, none otherwise; with metadata of
            several languages, size may come with one of the others (see `for_languages`).
        seed: of the coins.
        round: how often the pool was balanced before.
        part_bytes: bytes of pool rows per part.
        semantics: what an image with several texts yields; raw keeps them all, so only pair.
        tail_rule: what a tail share makes of a language whose t would be 0.
        group: what semantics takes for an image: all rows of the pool with one url (where there is
            none, image key), or with one image key; None for each row by itself.
    """

    kind: Kind
    t: float | None = None
    size: int | None = None
    tail_share: float | None = None
    seed: int = 0
    round: int = 0
    part_bytes: int = PART_BYTES
    semantics: Semantics = "pair"
    tail_rule: TailRule = "positive"
    group: ImageName | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        self._refuse_targets()
        self._refuse_semantics()
        self._refuse_group()
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value < limit:
                raise InvalidInputError(f"{name} {value} is not between 0 and {limit - 1}")
        if self.part_bytes == 0:
            raise InvalidInputError("part_bytes must be at least 1")

    def _refuse_targets(self) -> None:
        shared = self.t is not None or self.tail_share is not None
        two_shares = self.t is not None and self.tail_share is not None
        if self.kind not in KINDS:
            raise InvalidInputError(f"unknown kind {self.kind!r}; known: {', '.join(KINDS)}")
        if (shared or self.size is not None) != (self.kind == "balanced") or two_shares:
            raise InvalidInputError(
                "a balanced emission takes exactly one of t, size and tail share; others take none"
            )
        if self.t is not None and not 0 < self.t < float("inf"):
            raise InvalidInputError(f"t must be positive and finite, not {self.t}")
        if self.size is not None and not 1 <= self.size < 1 << 63:
            raise InvalidInputError(f"size must be at least 1 and below 2**63, not {self.size}")
        if self.tail_share is not None and not 0 < self.tail_share < 1:
            raise InvalidInputError(f"a tail share lies between 0 and 1, not {self.tail_share}")
        if self.tail_rule not in TAIL_RULES:
            known = ", ".join(TAIL_RULES)
            raise InvalidInputError(f"unknown tail rule {self.tail_rule!r}; known: {known}")
        if self.tail_rule != "positive" and self.kind != "balanced":
            raise InvalidInputError(f"tail rule {self.tail_rule} goes with a balanced emission")

    def _refuse_semantics(self) -> None:
        if self.semantics not in SEMANTICS:
            known = ", ".join(SEMANTICS)
            raise InvalidInputError(f"unknown semantics {self.semantics!r}; known: {known}")
        if self.kind == "raw" and self.semantics != "pair":
            raise InvalidInputError(
                f"a raw emission keeps every readable pair; semantics {self.semantics} goes with "
                "matched and balanced ones"
            )
        if self.size is not None and self.semantics == "record":
            raise InvalidInputError(
                "an exact size may fall within a record, which semantics record keeps whole; give "
                "t or a tail share, or take other semantics"
            )

    def _refuse_group(self) -> None:
        if self.group is None:
            return
        if self.group not in GROUPS:
            raise InvalidInputError(f"unknown group {self.group!r}; known: {', '.join(GROUPS)}")
        if self.semantics == "pair":
            raise InvalidInputError(
                f"group {self.group} changes nothing where every text has its own coin (semantics "
                "pair, and all raw datasets); take semantics metaclip2 or record, or leave it out"
            )

    def for_languages(self, languages: Collection[str]) -> "EmissionRequest":
        """Return what is asked of metadata of these languages, with nothing left to defaults.

        An exact size needs to know how critical t of different languages compare: by their ratio
        to the t that each would have at `t`, or at `tail_share`, or at BASE_TAIL_SHARE.

        Raises:
            InvalidInputError: they cannot give it.
        """
        several, shares = len(languages) > 1, self.t is not None or self.tail_share is not None
        if several and self.semantics == "record":
            raise InvalidInputError(
                "semantics record needs metadata of one language, since the texts of a record "
                "share a critical t and t differs between languages; take pair or metaclip2"
            )
        if self.size is not None and shares and not several:
            raise InvalidInputError(
                "with metadata of one language a size says it all; give exactly one of t, size and "
                "tail share"
            )
        if self.tail_rule != "positive" and self.tail_share is None and not several:
            raise InvalidInputError(
                f"tail rule {self.tail_rule} goes with a tail share, or with metadata of several "
                "languages, whose t follows from a tail share"
            )
        needs_base = self.size is not None and several and not shares
        return replace(self, tail_share=BASE_TAIL_SHARE) if needs_base else self

    def identity(
        self,
        run: Mapping[str, Any],
        snapshot: str,
        projection: Mapping[str, Any] | None = None,
        quarantined: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """Return what the emission's id is the hash of.

        Args:
            run: the run's id, rule and metadata fingerprints.
            snapshot: id of its frozen counts.
            projection: what they were projected from; None if they are the run's own.
            quarantined: inputs that could not be read, where the counts were frozen before that was
                known of all; None where the snapshot's id names them.
        """
        t = None if self.t is None else float(self.t).hex()
        target = {"t": t, "size": self.size, "tail_share": self.tail_share}
        target["tail_rule"] = self.tail_rule if self.tail_rule != "positive" else None
        return {
            "format": FORMAT,
            "run": dict(run),
            "snapshot": snapshot,
            **({"projected": dict(projection)} if projection else {}),
            **({} if quarantined is None else {"quarantined": list(quarantined)}),
            "kind": self.kind,
            "target": {name: value for name, value in target.items() if value is not None},
            "seed": self.seed,
            "round": self.round,
            "semantics": self.semantics,
            "part_bytes": self.part_bytes,
            **({"group": self.group} if self.group else {}),
        }

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any]) -> "EmissionRequest":
        """Return the request that an identity names."""
        target = dict(identity["target"])
        if "t" in target:
            target["t"] = float.fromhex(target["t"])
        names = ("kind", "seed", "round", "semantics", "part_bytes")
        group = identity.get("group")
        return cls(**target, **{name: identity[name] for name in names}, group=group)


def require_no_whole(requests: Iterable[EmissionRequest], *, dedup: bool) -> None:
    """Refuse what only a whole pool can give. Raises InvalidInputError."""
    wanted = {"removing duplicates": dedup}
    requests = list(requests)
    wanted["an exact size"] = any(request.size is not None for request in requests)
    wanted["gathering an image's rows (--group)"] = any(request.group for request in requests)
    for what, is_wanted in wanted.items():
        if is_wanted:
            raise InvalidInputError(
                f"{what} needs the whole pool, but this one is announced as a part of a larger one "
                "(--announced-pairs); leave one of the two out"
            )


def require_groupable(requests: Iterable[EmissionRequest], dedup: str = "") -> None:
    """Refuse groups that an emission from a run cannot have, or that would change nothing.

    Args:
        requests: the emissions.
        dedup: by what the run drops duplicates, as far as that is known.

    Raises:
        InvalidInputError: says what to do instead.
    """
    for request in requests:
        if request.group and request.size is not None:
            raise InvalidInputError(
                f"an exact size is not to be had together with group {request.group}, since images "
                "are settled before the cut is known; emit with --t or --emit matched, and cut "
                "exactly so many from that with `clipcurate rethreshold --size`"
            )
        if request.group == "url" == dedup:
            raise InvalidInputError(
                "group url changes nothing where duplicates are removed by url (--dedup url): no "
                "two rows of the pool have the same one; leave one of the two out"
            )


def image_partitions(tasks: int) -> int:
    """Return into how many partitions grouped images of so many tasks are parted.

    This changes no byte of a dataset.
    """
    return -(-tasks // IMAGES_OF_TASKS)
