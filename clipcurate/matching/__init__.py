"""Which entries occur in which texts, exactly by the published rule."""

from clipcurate.matching.matcher import ENGINES, RULES, Matcher
from clipcurate.matching.matches import Matches

__all__ = ["ENGINES", "RULES", "Matcher", "Matches"]
