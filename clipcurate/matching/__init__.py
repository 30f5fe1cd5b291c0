"""Which entries occur in which texts, exactly by the published rules."""

from clipcurate.matching.matcher import ENGINES, Matcher, warm_up
from clipcurate.matching.matches import Matches
from clipcurate.matching.rules import RULES
from clipcurate.matching.tables_file import tables_key

__all__ = ["ENGINES", "RULES", "Matcher", "Matches", "tables_key", "warm_up"]
